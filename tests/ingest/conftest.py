"""Real clips, written with PyAV: the brightness of a frame tells which one it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from web_site import Site, serving

from streamvlm.frame import Picture

STEP = 8
"""Brightness between one frame and the next; the encoders used here keep it."""


def write_clip(
    path: Path,
    *,
    n_frames: int = 30,
    fps: int = 10,
    times_s: Sequence[float] = (),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rotation: int = 0,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write frames of brightness i * STEP % 256 at i / fps or `times_s`; rotated ones are half white."""
    width, height = size
    tick = Fraction(1, 1000 if times_s else fps)
    with av.open(str(path), "w", options=muxer or {}) as out:
        stream: Any = out.add_stream(codec, rate=fps, options={"g": "10", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = tick
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(len(times_s) or n_frames):
            picture = np.full((height, width, 3), i * STEP % 256, np.uint8)
            if rotation:
                picture[height // 2 :] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.time_base = tick
            frame.pts = round(times_s[i] / tick) if times_s else i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def which_frame(picture: Picture) -> int:
    return round(float(picture.mean()) / STEP)


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """`write_clip` for names in tmp_path."""
    return lambda name, **how: write_clip(tmp_path / name, **how)


@pytest.fixture
def which() -> Callable[[Picture], int]:
    """Tells which frame of such a clip a picture shows."""
    return which_frame


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Site]:
    """A web server of tmp_path."""
    with serving("127.0.0.1", tmp_path) as site:
        yield site
