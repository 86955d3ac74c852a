"""Pictures that move: short videos, whatever door they come through."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

from kinds.clip import Clip, erased
from kinds.kind import NOW, WHEN, Kind, Right
from kinds.writing import write
from PIL import Image

DOORS = ("file", "folder", "http", "image_url", "video_url", "realtime", "source", "watch")

_MOVES = Right({NOW: "a blue star", WHEN: "at 0:00:04"}, ends_s=(8.0, 12.0))
_ENDS = Right({NOW: "a blue star"}, ends_s=(0.0, 12.0))
_LAST = {door: _ENDS for door in ("folder", "realtime")}
"""Where pictures stand one after another, an animation among them has no clock of its own."""


def _animate(format: str, path: Path, clip: Clip, every: int = 1, **how: Any) -> None:
    """Writes every so many pictures of a clip; each is shown until the next is."""
    first, *others = map(Image.fromarray, clip.pictures[::every])
    each_ms = round(1000 * every / float(clip.rate))
    first.save(path, format, save_all=True, append_images=others, duration=each_ms, **how)


def _with_poster(path: Path, clip: Clip) -> None:
    """An APNG that shows the red circle to programs that do not know APNG, and nobody else."""
    data = io.BytesIO()
    poster = Image.fromarray(clip.pictures[len(clip.pictures) // 2])
    pictures = list(map(Image.fromarray, clip.pictures))
    poster.save(
        data, "PNG", save_all=True, default_image=True, append_images=pictures, duration=round(1000 / float(clip.rate))
    )
    path.write_bytes(data.getvalue())


def _transparent(path: Path, clip: Clip) -> None:
    """A GIF whose pictures after the first hold only what changes, and are transparent elsewhere."""
    pictures = [Image.fromarray(erased(picture)) for picture in clip.pictures[::4]]
    pictures[0].save(
        path, "GIF", save_all=True, append_images=pictures[1:], duration=round(4000 / float(clip.rate)), disposal=2
    )


def _hasty(path: Path, clip: Clip) -> None:
    """A GIF that says of no picture how long it is shown, which is taken for a tenth of a second."""
    first, *others = map(Image.fromarray, clip.pictures)
    first.save(path, "GIF", save_all=True, append_images=others, duration=0)


def animation(
    name: str, what: str, file: str, make: Any, outcome: Right = _MOVES, doors: tuple[str, ...] = DOORS
) -> Kind:
    """A kind that goes through all of these doors."""
    return Kind(name, what, file, make, outcome, doors, _LAST)


ANIMATIONS = [
    animation("gif-animated", "animated GIF", "clip.gif", partial(_animate, "GIF")),
    animation("gif-three", "GIF of three pictures, four seconds each", "clip.gif", partial(_animate, "GIF", every=8)),
    animation("gif-encoded", "GIF of changes alone, as FFmpeg writes it", "clip.gif",
        partial(write, codec="gif", pixel_format="rgb8")),
    animation("gif-transparent", "animated GIF with transparency", "clip.gif", _transparent),
    animation("gif-hasty", "GIF that tells no times", "clip.gif", _hasty, _ENDS, doors=DOORS[:-1]),
    animation("webp-animated", "animated WebP", "clip.webp", partial(_animate, "WEBP", quality=80)),
    animation("webp-three", "WebP of three pictures, without loss", "clip.webp",
        partial(_animate, "WEBP", every=8, lossless=True)),
    animation("apng", "animated PNG", "clip.png", partial(_animate, "PNG")),
    animation("apng-poster", "animated PNG whose first picture is no part of it", "clip.png", _with_poster),
    animation("avif-animated", "animated AVIF", "clip.avif", partial(_animate, "AVIF", every=4, quality=80)),
]  # fmt: skip
