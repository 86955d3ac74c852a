"""Pictures from bytes that nobody vouches for: bounded, checked before they are decoded, never half read."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from streamvlm.frame import Picture
from streamvlm_server.errors import MediaError, TooLargeError

FORMATS = ("JPEG", "PNG", "WEBP")
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


def decode_picture(data: bytes, bounds: PictureBounds) -> Picture:
    """Decodes a JPEG, PNG or WebP, upright.

    Its size is read from the header and checked before a pixel is decoded, so that a small file of a huge picture costs
    nothing.

    Raises:
        TooLargeError: If it has too many bytes or pixels.
        MediaError: If it is none of these formats, damaged or cut short.
    """
    if len(data) > bounds.max_bytes:
        raise TooLargeError(
            f"The picture has {len(data)} bytes and {bounds.max_bytes} are allowed; send a smaller one."
        )
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_px(image.width, image.height, bounds)
            ImageOps.exif_transpose(image, in_place=True)
            rgb = image if image.mode == "RGB" else image.convert("RGB")  # which would copy what is RGB already
            return np.ascontiguousarray(rgb, dtype=np.uint8)
    except TooLargeError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError("The picture is no JPEG, PNG or WebP; send one of these.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(
            f"The picture has far more than the {bounds.max_px} pixels allowed; send a smaller one."
        ) from error
    except Exception as error:  # whatever a decoder does with hostile bytes, the picture cannot be read
        raise MediaError(f"The picture is damaged or cut short ({error}); send it whole.") from error


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


def _check_px(width: int, height: int, bounds: PictureBounds) -> None:
    if width * height > bounds.max_px:
        raise TooLargeError(
            f"The picture is {width}x{height} and {bounds.max_px} pixels are allowed; send a smaller one."
        )
