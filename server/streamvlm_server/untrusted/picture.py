"""Pictures from requests, bounded before they are decoded."""

from __future__ import annotations

import binascii
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from streamvlm.frame import Picture
from streamvlm.ingest.stills.still import StillReader
from streamvlm_server.errors import Base64Error, MediaUrlError, TooLargeError

Timed = tuple[float, Picture]
"""A picture, and how many seconds after the first one of its animation it is shown."""

_SLICE = 1 << 18  # decoded in less than a millisecond
_DATA_URL = re.compile(r"\s*data:(?P<type>[^;,]{0,127})(?P<parameters>(;[^;,]{0,255}){0,16}),", re.IGNORECASE)
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


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


def is_data_url(url: str) -> bool:
    """Whether a URL holds what it stands for."""
    return url[:64].lstrip()[:5].lower() == "data:"


def parse_data_url(url: str) -> DataUrl:
    """Takes a ``data:`` URL apart; of its parameters, such as charset and name, only base64 matters.

    Raises:
        MediaUrlError: If it is none, or not base64.
    """
    match = _DATA_URL.match(url)
    named = [] if match is None else [part.strip().lower() for part in (match["type"] + match["parameters"]).split(";")]
    if match is None or "base64" not in named:
        raise MediaUrlError("The media URL is no base64 data URL; write data:image/jpeg;base64,… with the bytes.")
    return DataUrl(named[0] if "/" in named[0] else "", url[match.end() :])


def decode_base64(text: str, *, max_bytes: int) -> bytes:
    """Decodes base64 as people have it: in either alphabet, padded or not, broken into lines, percent-encoded.

    It is done in slices, as each of them keeps every other thread waiting, and no further than it may be large.

    Raises:
        TooLargeError: If it holds more than ``max_bytes``.
        Base64Error: If it is no base64.
    """
    decoded: list[bytes] = []
    n_bytes, rest = 0, b""
    for letters in _letters(text):
        letters = rest + letters
        n_whole = len(letters) // 4 * 4  # which stand for whole bytes
        decoded.append(_decoded(letters[:n_whole]))
        rest = letters[n_whole:]
        n_bytes += len(decoded[-1])
        if n_bytes + len(rest) * 3 // 4 > max_bytes:
            raise TooLargeError(f"The media has more than the {max_bytes} bytes allowed; send less.")
    return b"".join((*decoded, _decoded(rest + b"=" * (-len(rest) % 4))))


def _letters(text: str) -> Iterator[bytes]:
    """Slices of the letters of base64, in the standard alphabet, without white space and padding."""
    rest, is_over = "", False
    for place in range(0, len(text), _SLICE):
        piece = rest + text[place : place + _SLICE]
        escape = piece.find("%", max(0, len(piece) - 2)) if place + _SLICE < len(text) else -1
        piece, rest = (piece, "") if escape < 0 else (piece[:escape], piece[escape:])
        padded = unquote_to_bytes(piece.encode(errors="replace")).translate(
            _URL_SAFE, delete=string.whitespace.encode()
        )
        letters = padded.rstrip(b"=")
        if b"=" in letters or (is_over and letters):
            raise _no_base64("padding in its midst")
        is_over = is_over or len(letters) < len(padded)
        yield letters


def _decoded(letters: bytes) -> bytes:
    try:
        return binascii.a2b_base64(letters, strict_mode=True)
    except binascii.Error as error:
        strange = letters.translate(None, delete=_LETTERS)[:1]
        raise _no_base64(f"{strange.decode('latin-1')!r} in it" if strange else "its end cut off") from error


def _no_base64(why: str) -> Base64Error:
    return Base64Error(f"The media is no base64: it has {why}; send its bytes in A to Z, a to z, 0 to 9, + and /.")
