"""Photographs with known answers, composed from two Debian packages.

The repository holds none of the pictures. `photos.tsv` lists the cut-outs of tuxpaint-stamps-default that are
photographs, with every everyday word that rightly names each. Backdrops are out-of-focus crops of some
gnome-backgrounds wallpapers, which then look like the background of a photograph. The same folders and seed
always give the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from streamvlm.errors import SourceError
from streamvlm.frame import Picture

FRAME_SIZE = (320, 240)
# The package's other wallpapers show flat colours or desktop icons even when blurred.
_WALLPAPERS = ("adwaita-d", "adwaita-l", "licorice-d", "licorice-l", "truchet-l", "wood-d", "wood-l")
_WALLPAPER_SIZE = (640, 640)


@dataclass(frozen=True, slots=True)
class PhotoCase:
    """One photograph to be named.

    Attributes:
        picture: (240, 320, 3) uint8 RGB.
        words: Every everyday word that is a right answer.
        name: The cut-out's path below the stamps folder.
    """

    picture: Picture
    words: frozenset[str]
    name: str


def photo_words() -> dict[str, frozenset[str]]:
    """Returns the listed cut-outs: path below the stamps folder -> every right everyday word."""
    lines = Path(__file__).with_name("photos.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {path: frozenset(words.split(",")) for path, words in rows}


def load_photo_set(stamps_root: Path, backgrounds_root: Path, seed: int) -> list[PhotoCase]:
    """Composes every listed cut-out with a backdrop.

    Args:
        stamps_root: The stamps folder, `/usr/share/tuxpaint/stamps` once installed.
        backgrounds_root: The wallpapers folder, `/usr/share/backgrounds/gnome` once installed.
        seed: Chooses backdrop, size and place of every cut-out.

    Raises:
        SourceError: If a folder or a listed picture is missing or unreadable; names the package to install.
    """
    _require_folder(stamps_root, "tuxpaint-stamps-default")
    backdrops = _read_backdrops(backgrounds_root)
    cases = []
    for index, (name, words) in enumerate(photo_words().items()):
        rng = np.random.default_rng((seed, index))
        cutout = read_cutout(stamps_root / name)
        backdrop = backdrops[rng.integers(len(backdrops))]
        cases.append(PhotoCase(compose_photo(cutout, backdrop, rng), words, name))
    return cases


def read_cutout(path: Path) -> NDArray[np.uint8]:
    """Reads one stamp as (height, width, 4) uint8 RGBA, trimmed to what is visible.

    Raises:
        SourceError: If it is missing, unreadable or has no alpha channel.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise SourceError(f"{path} is no cut-out: install the Debian package tuxpaint-stamps-default anew.")
    left, top, width, height = cv2.boundingRect((pixels[..., 3] > 0).astype(np.uint8))
    return _uint8(cv2.cvtColor(pixels[top : top + height, left : left + width], cv2.COLOR_BGRA2RGBA))


def compose_photo(
    cutout: NDArray[np.uint8],
    background: Picture,
    rng: np.random.Generator,
    size: tuple[int, int] = FRAME_SIZE,
) -> Picture:
    """Puts a cut-out at a random place before an out-of-focus crop of a background.

    Args:
        cutout: (h, w, 4) uint8 RGBA; fills 60-85 % of the frame's height, less only if too wide for that.
        background: (height, width, 3) uint8 RGB, any size.
        rng: Chooses crop, blur, size and place.
        size: Width and height of the result, pixels.

    Returns:
        (size[1], size[0], 3) uint8 RGB.
    """
    frame = _out_of_focus(background, rng, size).astype(np.float32)
    height, width = cutout.shape[:2]
    scale = min(rng.uniform(0.60, 0.85) * size[1] / height, size[0] / width)
    scaled = max(1, round(width * scale)), max(1, round(height * scale))
    colour, alpha = _resize_premultiplied(cutout, scaled)
    top, left = rng.integers(0, np.subtract(frame.shape[:2], alpha.shape[:2]) + 1)
    place = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    frame[place] = colour + frame[place] * (1 - alpha)
    return _uint8(frame.round().clip(0, 255))


def _out_of_focus(background: Picture, rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Returns a random crop of the background with the frame's aspect, blurred over 2-7 % of its width."""
    height, width = background.shape[:2]
    fit = min(width / size[0], height / size[1]) * rng.uniform(0.4, 0.9)
    crop_width, crop_height = max(1, round(size[0] * fit)), max(1, round(size[1] * fit))
    left, top = rng.integers(0, width - crop_width + 1), rng.integers(0, height - crop_height + 1)
    crop = background[top : top + crop_height, left : left + crop_width]
    diameter = 2 * round(size[0] * rng.uniform(0.02, 0.07)) + 1
    return _uint8(cv2.stackBlur(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), (diameter, diameter)))


def _resize_premultiplied(
    cutout: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns colour times alpha (h, w, 3) in 0-255, and alpha (h, w, 1) in 0-1, resized.

    Multiplying first keeps the meaningless colour of transparent pixels from bleeding into the outline.
    """
    pixels = cutout.astype(np.float32)
    alpha = pixels[..., 3:] / 255
    shrinks = size[1] < cutout.shape[0]
    resized = cv2.resize(
        np.concatenate([pixels[..., :3] * alpha, alpha], axis=2),
        size,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    ).astype(np.float32)
    return resized[..., :3], resized[..., 3:]


def _read_backdrops(root: Path) -> list[Picture]:
    _require_folder(root, "gnome-backgrounds")
    paths = [path for name in _WALLPAPERS if (path := root / f"{name}.webp").is_file()]
    wallpapers = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in paths]
    # Each is 16 megapixels: far more than a blurred crop of a small frame can show.
    backdrops = [
        _uint8(cv2.resize(wallpaper, _WALLPAPER_SIZE, interpolation=cv2.INTER_AREA))
        for wallpaper in wallpapers
        if wallpaper is not None
    ]
    if not backdrops:
        raise SourceError(f"{root} holds no usable wallpaper: install the Debian package gnome-backgrounds.")
    return backdrops


def _require_folder(root: Path, package: str) -> None:
    if not root.is_dir():
        raise SourceError(f"There is no folder {root}: install the Debian package {package}.")


def _uint8(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(pixels, dtype=np.uint8)
