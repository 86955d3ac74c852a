"""Bounds of the pictures that clients send, checked before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass

from streamvlm.frame import Picture
from streamvlm.ingest.stills.still import StillReader
from streamvlm_server.errors import TooLargeError

Timed = tuple[float, Picture]
"""A picture, and how many seconds after the first one of its animation it is shown."""


@dataclass(frozen=True, slots=True)
class PictureBounds:
    """How large a picture may be: bytes as it comes, and pixels (width times height) as it is decoded."""

    max_bytes: int
    max_px: int


def open_still(data: bytes, bounds: PictureBounds) -> StillReader:
    """Opens a picture or an animation within bounds.

    Raises:
        TooLargeError: If it has too many bytes.
        PictureError: If it cannot be read, or has too many pixels.
    """
    if len(data) > bounds.max_bytes:
        raise TooLargeError(
            f"The picture has {len(data)} bytes and {bounds.max_bytes} are allowed; send a smaller one."
        )
    return StillReader(data, name="The picture", max_px=bounds.max_px)
