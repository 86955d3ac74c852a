"""Pictures from requests, bounded before they are decoded."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from streamvlm.frame import Picture
from streamvlm.ingest.still import StillReader
from streamvlm_server.errors import MediaError, TooLargeError

Timed = tuple[float, Picture]
"""A picture, and how many seconds after the first one of its animation it is shown."""

_SLICE = 1 << 18  # a multiple of 4, which stand for whole bytes; decoded in less than a millisecond
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PictureBounds:
    """How large a picture may be: bytes as it comes, and pixels (width times height) as it is decoded."""

    max_bytes: int
    max_px: int


@dataclass(frozen=True, slots=True)
class DataUrl:
    """A ``data:`` URL, taken apart: its media type in lower case, and what comes after the comma, still base64."""

    media_type: str
    payload: str


def open_still(data: bytes, bounds: PictureBounds) -> StillReader:
    """Opens a picture or an animation.

    Raises:
        TooLargeError: If it has too many bytes.
        PictureError: If it cannot be read, or has too many pixels.
    """
    if len(data) > bounds.max_bytes:
        raise TooLargeError(
            f"The picture has {len(data)} bytes and {bounds.max_bytes} are allowed; send a smaller one."
        )
    return StillReader(data, name="The picture", max_px=bounds.max_px)


def parse_data_url(url: str) -> DataUrl:
    """Takes a ``data:`` URL apart.

    Raises:
        MediaError: If it is none, or not base64.
    """
    match = _DATA_URL.match(url)
    if match is None or not match["base64"]:
        raise MediaError("The media URL is no base64 data URL; write data:image/jpeg;base64,… with the bytes.")
    return DataUrl((match["type"] or "").lower(), url[match.end() :])


def decode_base64(text: str, *, max_bytes: int) -> bytes:
    """Decodes base64, refusing by its length what would be too large.

    It is done in slices, as each of them keeps every other thread waiting.

    Raises:
        TooLargeError: If it holds more than ``max_bytes``.
        MediaError: If it is no base64.
    """
    if len(text) // 4 * 3 > max_bytes + 2:
        raise TooLargeError(f"The media has about {len(text) // 4 * 3} bytes and {max_bytes} are allowed; send less.")
    try:
        if 0 <= text.find("=") < len(text) - 2:
            raise ValueError("padding in its midst")
        slices = (text[place : place + _SLICE] for place in range(0, len(text), _SLICE))
        return b"".join(base64.b64decode(one, validate=True) for one in slices)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"The media is no base64 ({error}); encode its bytes again.") from error
