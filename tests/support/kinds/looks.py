"""Videos of all shapes and colours that are shown otherwise than they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from kinds.clip import Clip, erased, resized
from kinds.kind import NOW, UPRIGHT, Kind, Right
from kinds.videos import video
from kinds.writing import write
from numpy.typing import NDArray

from streamvlm.frame import Picture

_DECODED = ("file", "video_url")
"""Doors enough for what does not depend on how it comes."""


def _changed(change: Callable[[Picture], Picture], path: Path, clip: Clip, **how: Any) -> None:
    """Writes a clip of changed pictures."""
    write(path, replace(clip, pictures=tuple(map(change, clip.pictures))), **how)


# --- shown otherwise than stored -------------------------------------------------------------------------------------

_ONE = 1 << 16
_TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[Picture], Picture]]] = {
    # a, b, c, d of the display matrix, which takes what is stored to what is shown, and what has to be stored
    "rotated-90": ((0, 1, -1, 0), lambda shown: np.rot90(shown, 1)),
    "rotated-180": ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2)),
    "rotated-270": ((0, -1, 1, 0), lambda shown: np.rot90(shown, 3)),
    "hflip": ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda shown: shown[::-1]),
    "transposed": ((0, 1, 1, 0), lambda shown: shown.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda shown: np.rot90(shown, 2).swapaxes(0, 1)),
}


def _turned(name: str, path: Path, clip: Clip, **how: Any) -> None:
    """Writes pictures that are to be turned or mirrored by the container's display matrix."""
    (a, b, c, d), store = _TURNS[name]
    matrix = [a * _ONE, b * _ONE, 0, c * _ONE, d * _ONE, 0, 0, 0, 1 << 30]
    _changed(
        lambda shown: np.ascontiguousarray(store(shown)),
        path,
        clip,
        setup=lambda stream: stream.set_display_matrix(matrix),
        **how,
    )


# --- high dynamic range ----------------------------------------------------------------------------------------------

_TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Linear light of BT.709 primaries to BT.2020 (ITU-R BT.2087)."""


def _pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084 of light relative to diffuse white, which is 203 cd/m² (ITU-R BT.2408)."""
    powered = (light * 203 / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375)


def _hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """ARIB STD-B67 of light relative to diffuse white, which is a signal of 75 % (ITU-R BT.2408)."""
    scene = np.clip(light * 0.203, 0, None) ** (1 / 1.2)  # on a display of 1000 cd/m², its system gamma of 1.2 undone
    linear = np.sqrt(3 * scene)
    return np.where(
        scene <= 1 / 12, linear, 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def _hdr(curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], picture: Picture) -> VideoFrame:
    """A picture of sRGB as 10 bits of BT.2020 in a transfer curve, its colours at every second pixel."""
    srgb = picture / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    red, green, blue = np.moveaxis(curve(np.clip(light @ _TO_2020.T, 0, 1)), -1, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    u, v = (blue - luma) / 1.8814, (red - luma) / 1.4746
    planes = [
        64 + 876 * luma,
        512 + 896 * cv2.resize(u, None, fx=0.5, fy=0.5),
        512 + 896 * cv2.resize(v, None, fx=0.5, fy=0.5),
    ]
    flat = np.concatenate([np.round(plane).astype("<u2").ravel() for plane in planes])
    return VideoFrame.from_ndarray(flat.reshape(-1, picture.shape[1]), format="yuv420p10le")


def _coloured(transfer: int, stream: Any) -> None:
    context = stream.codec_context
    context.color_primaries, context.colorspace, context.color_trc, context.color_range = 9, 9, transfer, 1


def _high_range(name: str, what: str, curve: Callable[..., NDArray[np.float64]], transfer: int, **how: Any) -> Kind:
    return video(
        name, what, pixel_format="yuv420p10le", convert=partial(_hdr, curve), setup=partial(_coloured, transfer), **how
    )  # fmt: skip


# --- the kinds -------------------------------------------------------------------------------------------------------

_GREY = Right({NOW: "a black star"}, ends_s=(9.5, 12.0))
_ERASED = Right({NOW: "a blue star", "did you see a red circle?": "yes, at 0:00:04"}, ends_s=(9.5, 12.0))

SHAPES = [
    *(
        Kind(name, f"display matrix: {name.replace('-', ' by ')}", "clip.mp4", partial(_turned, name), UPRIGHT,
            (*_DECODED, "source", "watch") if name == "hflip" else _DECODED)
        for name in _TURNS
    ),
    Kind("hflip-mov", "Motion JPEG in QuickTime with a mirror in its display matrix", "clip.mov",
        partial(_turned, "hflip", codec="mjpeg", pixel_format="yuvj420p"), UPRIGHT, _DECODED),
    Kind("odd-size", "pictures of 161x121", "clip.webm", partial(_changed, lambda shown: resized(shown, 161, 121),
        codec="libvpx-vp9"), UPRIGHT, _DECODED),
    Kind("portrait", "pictures of 120x160", "clip.mp4", partial(_changed, lambda shown: resized(shown, 120, 160)),
        UPRIGHT, _DECODED),
    Kind("tiny", "pictures of 32x24", "clip.mp4", partial(_changed, lambda shown: resized(shown, 32, 24)), UPRIGHT,
        _DECODED),
    Kind("large", "pictures of 1280x720", "clip.mp4", partial(_changed, lambda shown: resized(shown, 1280, 720)),
        UPRIGHT, _DECODED),
]  # fmt: skip

COLOURS = [
    _high_range("hdr-pq", "HEVC of 10 bits in PQ", _pq, 16, codec="libx265", doors=("file", "source")),
    _high_range("hdr-hlg", "HEVC of 10 bits in HLG", _hlg, 18, codec="libx265", doors=("file",)),
    _high_range("hdr-av1", "AV1 of 10 bits in PQ, in WebM", _pq, 16, codec="libsvtav1", file="clip.webm",
        doors=("video_url",)),
    video("interlaced", "H.264 of fields, interlaced", coder={"x264-params": "tff=1"}, doors=_DECODED),
    video("10-bit", "H.264 of 10 bits", pixel_format="yuv420p10le", doors=_DECODED),
    video("yuv444", "H.264 with all of its colours", pixel_format="yuv444p", doors=_DECODED),
    video("full-range", "H.264 of full range", pixel_format="yuvj420p", doors=_DECODED),
    video("grey", "H.264 without colours", outcome=_GREY, pixel_format="gray", doors=_DECODED),
    Kind("alpha-mov", "PNGs in QuickTime, a red circle erased by alpha", "clip.mov",
        partial(_changed, erased, codec="png", pixel_format="rgba"), _ERASED, _DECODED),
]  # fmt: skip
