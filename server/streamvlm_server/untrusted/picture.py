"""Decodes the pictures that clients send, within bounds that are checked before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass

from streamvlm.errors import PictureTooLargeError
from streamvlm.frame import Picture
from streamvlm.ingest.sampling import sample
from streamvlm.ingest.stills.still import StillReader
from streamvlm.readable import size
from streamvlm_server.errors import TooLargeError

Timed = tuple[float, Picture]
"""A picture, and how many seconds after the first one of its animation it is shown."""

ANIMATION_FPS = 1.0
"""Pictures taken from a second of an animation."""


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
        raise TooLargeError(f"The picture has more than the {size(bounds.max_bytes)} allowed; send a smaller one.")
    return StillReader(data, name="The picture", max_px=bounds.max_px)


def decode_pictures(data: bytes, bounds: PictureBounds) -> list[Timed]:
    """Decodes the picture in a file, or those of an animation, within bounds.

    Raises:
        TooLargeError: If it has too many bytes.
        PictureError: If it cannot be read, or has too many pixels.
    """
    pictures: list[Timed] = []
    n_px = 0
    reader = open_still(data, bounds)
    for time_s, decoded in sample(reader, ANIMATION_FPS) if reader.is_animated else reader:
        picture = decoded()
        n_px += picture.size // 3
        if n_px > bounds.max_px:
            raise PictureTooLargeError(
                f"The pictures of the animation have more than the {bounds.max_px} pixels allowed together; "
                "send a shorter one."
            )
        pictures.append((time_s, picture))
    return pictures
