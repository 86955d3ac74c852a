"""Draws a world: one 320×240 picture for any stream time, always the same for the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from streamvlm.frame import Picture
from streamvlm.world.events import ZONES, Appearance, SceneSpan, Thing, World

WIDTH, HEIGHT = 320, 240
_ZONE_W, _ZONE_H = WIDTH / 3, HEIGHT / 3
_RADIUS = 36
_FLASH_S = 0.11
_FINE = 4
"""Fractional bits of cv2's sub-pixel coordinates."""

COLOUR_RGB = {
    "red": (214, 32, 36),
    "orange": (246, 138, 22),
    "yellow": (248, 224, 40),
    "green": (36, 160, 62),
    "blue": (34, 84, 214),
    "purple": (128, 48, 172),
    "pink": (248, 142, 190),
    "black": (24, 24, 26),
}


def render(world: World, time_s: float, photos: Mapping[str, Picture] | None = None) -> Picture:
    """Draws the picture of ``world`` at ``time_s``.

    Args:
        world: What to draw.
        time_s: When.
        photos: (240, 320, 3) pictures of the world's photographs by name, if it shows any.

    Returns:
        (240, 320, 3) uint8 RGB, with the sensor noise of that moment.
    """
    rng = np.random.default_rng([world.seed, int(time_s * 1000)])
    photo = world.photo(time_s)
    if photo is not None and photos is not None:
        picture = photos[photo.name]
    else:
        picture = _background(world, world.scene(time_s), time_s)
    for shown in world.visible(time_s):
        _draw_thing(picture, shown.thing, _centre(shown, time_s))
    if any(abs(time_s - flash_s) < _FLASH_S for flash_s in world.flashes_s):
        picture = (picture * 0.15 + 255 * 0.85).astype(np.uint8)
    noise = rng.normal(0, 3.0, picture.shape[:2])[..., None]
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def draw_picture(scene: str, things: dict[str, Thing], rng: np.random.Generator) -> Picture:
    """Draws ``things`` by zone on ``scene``, placed, lit and blurred at random: one training picture."""
    span = SceneSpan(scene, 0.0, 1.0, 0.0)
    picture = _SCENES[scene](int(rng.integers(2**31)), float(rng.uniform(0, 1000)), span)
    for zone, thing in things.items():
        x, y = _zone_centre(zone)
        _draw_thing(picture, thing, (x + rng.uniform(-11, 11), y + rng.uniform(-3, 3)), rng.uniform(0.92, 1.06))
    shaded = picture * rng.uniform(0.85, 1.12) + rng.normal(0, rng.uniform(0, 6), picture.shape[:2])[..., None]
    picture = np.clip(shaded, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))])
        picture = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED), np.uint8)
    return picture


def _zone_centre(zone: str) -> tuple[float, float]:
    row, column = divmod(ZONES.index(zone), 3)
    return (column + 0.5) * _ZONE_W, (row + 0.5) * _ZONE_H


def _centre(shown: Appearance, time_s: float) -> tuple[float, float]:
    """Returns the place of a thing, which drifts slowly about its zone's centre."""
    x, y = _zone_centre(shown.zone)
    phase = time_s * 0.9 + shown.start_s
    return x + 8 * np.cos(phase), y + 3 * np.sin(1.3 * phase)


def _background(world: World, scene: SceneSpan, time_s: float) -> NDArray[np.uint8]:
    shift = scene.pan_px_per_s * (time_s - scene.start_s)
    return _SCENES[scene.name](hash((world.seed, scene.start_s)) % 2**31, shift, scene)


# --- things -----------------------------------------------------------------------------------------------------------


def _draw_thing(picture: Picture, thing: Thing, centre: tuple[float, float], scale: float = 1.0) -> None:
    outline = _outline(thing.shape)
    points = [np.round((np.array(centre) + p * _RADIUS * scale) * 2**_FINE).astype(np.int32) for p in outline]
    cv2.fillPoly(picture, points, COLOUR_RGB[thing.colour], cv2.LINE_AA, _FINE)
    edge = (235, 235, 235) if thing.colour == "black" else (30, 30, 30)
    cv2.polylines(picture, points, True, edge, 2, cv2.LINE_AA, _FINE)
    if thing.badge is not None:
        _draw_badge(picture, thing.badge, centre, scale)


def _draw_badge(picture: Picture, badge: str, centre: tuple[float, float], scale: float) -> None:
    """Draws a white plate with the badge in black."""
    font, text = cv2.FONT_HERSHEY_SIMPLEX, badge.upper()
    size = (0.95 if len(badge) == 1 else 0.62) * scale
    (width, height), _ = cv2.getTextSize(text, font, size, 2)
    x, y = int(centre[0] - width / 2), int(centre[1] + height / 2)
    cv2.rectangle(picture, (x - 4, y - height - 4), (x + width + 3, y + 4), (250, 250, 250), -1)
    cv2.rectangle(picture, (x - 4, y - height - 4), (x + width + 3, y + 4), (40, 40, 40), 1)
    cv2.putText(picture, text, (x, y), font, size, (10, 10, 10), 2, cv2.LINE_AA)


def _outline(shape: str) -> list[NDArray[np.float64]]:
    """Returns the closed outlines of a shape within the unit circle; the second one, if any, is a hole."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    round_ = np.stack([np.cos(turn), np.sin(turn)], 1)
    match shape:
        case "circle":
            return [round_]
        case "ring":
            return [round_, round_[::-1] * 0.62]
        case "square":
            return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.86]
        case "diamond":
            return [np.array([(0, -1.05), (0.8, 0), (0, 1.05), (-0.8, 0)])]
        case "triangle":
            return [np.array([(0, -1), (1, 0.85), (-1, 0.85)])]
        case "star":
            radius = np.where(np.arange(10) % 2 == 0, 1.08, 0.46)[:, None]
            angle = np.arange(10) * np.pi / 5 - np.pi / 2
            return [np.stack([np.cos(angle), np.sin(angle)], 1) * radius]
        case "heart":
            x = 16 * np.sin(turn) ** 3
            y = -(13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn))
            return [np.stack([x, y], 1) / 16.5]
        case "cross":
            a, b = 0.36, 1.0
            corners = [
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ]
            return [np.array(corners)]
        case "moon":
            far = np.linspace(0.3 * np.pi, 1.7 * np.pi, 32)
            near = np.linspace(1.62 * np.pi, 0.38 * np.pi, 24)
            outer = np.stack([np.cos(far), np.sin(far)], 1)
            inner = np.stack([0.62 * np.cos(near) + 0.42, 0.84 * np.sin(near)], 1)
            return [np.concatenate([outer, inner])]
        case "arrow":
            return [
                np.array(
                    [
                        (-1, -0.34),
                        (0.12, -0.34),
                        (0.12, -0.9),
                        (1.05, 0),
                        (0.12, 0.9),
                        (0.12, 0.34),
                        (-1, 0.34),
                    ]
                )
            ]
    raise ValueError(f"no such shape: {shape}")


# --- scenes: (seed, shift in px, span) -> (240, 320, 3) uint8 ---------------------------------------------------------


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> NDArray[np.uint8]:
    share = np.linspace(0, 1, HEIGHT)[:, None, None]
    return (
        np.broadcast_to(np.array(top) * (1 - share) + np.array(bottom) * share, (HEIGHT, WIDTH, 3))
        .astype(np.uint8)
        .copy()
    )


def _scattered(seed: int, n: int, shift: float) -> tuple[NDArray[np.float64], NDArray[np.float64], np.random.Generator]:
    """Returns ``n`` random places that move by ``shift`` and wrap around."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, WIDTH + 80, n) + shift) % (WIDTH + 80) - 40, rng.uniform(0, HEIGHT, n), rng


def _forest(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((150, 178, 150), (84, 110, 78))
    xs, _, rng = _scattered(seed, 14, shift)
    for x, tall in zip(xs, rng.uniform(70, 170, 14), strict=True):
        base, half = HEIGHT, tall * 0.28
        tree = np.array([(x, base - tall), (x + half, base), (x - half, base)], np.int32)
        cv2.fillPoly(picture, [tree], (58, 96, 66), cv2.LINE_AA)
    return picture


def _sea(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((196, 220, 232), (96, 150, 178))
    picture[: HEIGHT // 3] = (206, 226, 236)
    xs = np.arange(-40, WIDTH + 40, 4)
    for y in range(HEIGHT // 3 + 8, HEIGHT, 18):
        wave = np.stack([xs, y + 4 * np.sin((xs + shift + 13 * y + seed % 97) / 11)], 1).astype(np.int32)
        cv2.polylines(picture, [wave], False, (176, 208, 222), 2, cv2.LINE_AA)
    return picture


def _desert(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((236, 222, 190), (226, 198, 150))
    xs = np.arange(-40, WIDTH + 41, 4)
    for i, y in enumerate((110, 160, 205)):
        dune = y + 18 * np.sin((xs + shift * (1 + i / 3) + seed % 301) / (46 - 8 * i))
        outline = np.concatenate([np.stack([xs, dune], 1), [(WIDTH + 40, HEIGHT), (-40, HEIGHT)]]).astype(np.int32)
        cv2.fillPoly(picture, [outline], (222 - 14 * i, 192 - 14 * i, 142 - 12 * i), cv2.LINE_AA)
    return picture


def _snow(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((214, 220, 228), (244, 246, 250))
    xs, ys, rng = _scattered(seed, 90, shift)
    for x, y, r in zip(xs, ys, rng.uniform(1, 4, 90), strict=True):
        cv2.circle(picture, (int(x), int(y)), int(r), (255, 255, 255), -1, cv2.LINE_AA)
    for x, y in zip(xs[:24], ys[:24], strict=True):
        cv2.circle(picture, (int(x), int(y)), 2, (176, 190, 208), -1, cv2.LINE_AA)
    return picture


def _city(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((184, 188, 194), (150, 152, 156))
    xs, _, rng = _scattered(seed, 9, shift)
    for x, tall in zip(xs, rng.uniform(90, 210, 9), strict=True):
        left, top = int(x), int(HEIGHT - tall)
        cv2.rectangle(picture, (left, top), (left + 34, HEIGHT), (120, 122, 130), -1)
        for wy in range(top + 8, HEIGHT, 18):
            for wx in (left + 6, left + 20):
                cv2.rectangle(picture, (wx, wy), (wx + 7, wy + 8), (210, 206, 176), -1)
    return picture


def _night(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((22, 26, 52), (52, 56, 92))
    xs, ys, rng = _scattered(seed, 70, shift)
    for x, y, glow in zip(xs, ys, rng.integers(130, 240, 70), strict=True):
        cv2.circle(picture, (int(x), int(y)), 1, (int(glow),) * 3, -1, cv2.LINE_AA)
    return picture


def _meadow(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = _gradient((206, 228, 186), (164, 204, 130))
    xs, ys, rng = _scattered(seed, 60, shift)
    for x, y, kind in zip(xs, ys, rng.integers(0, 3, 60), strict=True):
        petal = ((250, 250, 244), (250, 230, 150), (236, 190, 214))[kind]
        cv2.circle(picture, (int(x), int(y)), 3, petal, -1, cv2.LINE_AA)
    return picture


def _wall(seed: int, shift: float, span: SceneSpan) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH, 3), (196, 184, 172), np.uint8)
    for row, y in enumerate(range(0, HEIGHT, 20)):
        cv2.line(picture, (0, y), (WIDTH, y), (160, 140, 128), 2)
        first = int((shift + 20 * (row % 2) + seed % 40) % 40) - 40
        for x in range(first, WIDTH + 40, 40):
            cv2.line(picture, (x, y), (x, y + 20), (160, 140, 128), 2)
    return picture


_SCENES: dict[str, Callable[[int, float, SceneSpan], NDArray[np.uint8]]] = {
    "forest": _forest, "sea": _sea, "desert": _desert, "snow": _snow,
    "city": _city, "night": _night, "meadow": _meadow, "wall": _wall,
}  # fmt: skip
