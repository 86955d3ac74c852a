"""Converts a frame that FFmpeg has decoded to RGB: of full range, with square pixels, on white, upright."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import cast

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from streamvlm.errors import SourceError
from streamvlm.frame import Picture
from streamvlm.ingest.orientation import UPRIGHT, orientation_of, upright

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ and HLG
_PRIMARIES = frozenset(ColorPrimaries)  # other values are reserved, and libswscale refuses them
_STRONGEST_STRETCH = 4
_MATRIX = struct.Struct("=9i")


def _on_white(picture: NDArray[np.uint8]) -> Picture:
    """Lays a picture, (height, width, 4) uint8 RGBA, on white."""
    alpha = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def as_sdr(picture: Picture, primaries: int, transfer: int) -> Picture:
    """Converts a still picture to SDR if its transfer is one of HDR; primaries and transfer as in ISO/IEC 23091-2."""
    if transfer not in _HDR:
        return picture
    frame = VideoFrame.from_ndarray(picture, format="rgb24")
    frame.color_primaries, frame.color_trc = primaries, transfer
    return PictureConverter(None)(frame)


class PictureConverter:
    """Converts the frames of one video; FFmpeg's tables for that are made once.

    libswscale converts HDR to SDR, tones and colours: it maps 203 cd/m², the white of ITU-R BT.2408, to white, and
    brighter light as BT.2390 does.

    Args:
        pixel_aspect: Width of a pixel over its height; None where the video does not say. The picture is stretched
            until its pixels are square.
    """

    def __init__(self, pixel_aspect: Fraction | None) -> None:
        self._reformatter = VideoReformatter()
        aspect = pixel_aspect or 1
        self._aspect = aspect if 1 <= max(aspect, 1 / aspect) <= _STRONGEST_STRETCH else 1

    def __call__(self, frame: VideoFrame) -> Picture:
        """Converts a decoded frame of any size and pixel format to upright (height, width, 3) uint8 RGB.

        Raises:
            SourceError: If FFmpeg cannot convert its colours.
        """
        is_hdr = frame.color_trc in _HDR
        if is_hdr and frame.color_primaries not in _PRIMARIES:
            frame.color_primaries = ColorPrimaries.BT2020
        is_see_through = any(component.is_alpha for component in frame.format.components)
        try:
            rgb = self._reformatter.reformat(
                frame,
                width=round(frame.width * max(self._aspect, 1)),
                height=round(frame.height / min(self._aspect, 1)),
                format="rgba" if is_see_through else "rgb24",
                dst_color_trc=ColorTrc.BT709 if is_hdr else None,
                dst_color_primaries=ColorPrimaries.BT709 if is_hdr else None,
            )
        except FFmpegError as error:  # ICtCp, say
            raise SourceError(
                f"The video's colours are stored in a way that is not read ({error.strerror}); convert it to BT.709."
            ) from None
        picture = np.asarray(rgb.to_ndarray(), np.uint8)
        return upright(_on_white(picture) if is_see_through else picture, _orientation(frame))


def _orientation(frame: VideoFrame) -> int:
    side_data = cast(SideDataContainer, frame.side_data)  # PyAV's own types say otherwise
    if Type.DISPLAYMATRIX not in side_data:
        return UPRIGHT
    return orientation_of(_MATRIX.unpack_from(side_data[Type.DISPLAYMATRIX]))
