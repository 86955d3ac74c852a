"""``data:`` URLs and base64 as clients write them."""

from __future__ import annotations

import binascii
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from streamvlm.readable import size
from streamvlm_server.errors import Base64Error, MediaUrlError, TooLargeError

_SLICE = 1 << 18  # decoded in less than a millisecond
_DATA_URL = re.compile(r"\s*data:(?P<type>[^;,]{0,127})(?P<parameters>(;[^;,]{0,255}){0,16}),", re.IGNORECASE)
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class DataUrl:
    """A ``data:`` URL, taken apart: its media type in lower case, and what comes after the comma, still base64."""

    media_type: str
    payload: str


def is_data_url(url: str) -> bool:
    """Whether a URL is a ``data:`` URL, which holds its data itself."""
    return url[:64].lstrip()[:5].lower() == "data:"


def parse_data_url(url: str) -> DataUrl:
    """Takes a ``data:`` URL apart; of its parameters only base64 matters, not charset or name.

    Raises:
        MediaUrlError: If it is none, or not base64.
    """
    match = _DATA_URL.match(url)
    named = [] if match is None else [part.strip().lower() for part in (match["type"] + match["parameters"]).split(";")]
    if match is None or "base64" not in named:
        raise MediaUrlError("The media URL is no base64 data URL; write data:image/jpeg;base64,… with the bytes.")
    return DataUrl(named[0] if "/" in named[0] else "", url[match.end() :])


def decode_base64(text: str, *, max_bytes: int) -> bytes:
    """Decodes base64 as it is found: in either alphabet, padded or not, broken into lines, percent-encoded.

    It is decoded in slices, as every other thread waits while one is decoded, and stops beyond ``max_bytes``.

    Raises:
        TooLargeError: If it holds more than ``max_bytes``.
        Base64Error: If it is no base64.
    """
    decoded: list[bytes] = []
    n_bytes, rest = 0, b""
    for letters in _letters(text):
        letters = rest + letters
        n_whole = len(letters) // 4 * 4  # which stand for whole bytes
        decoded.append(_decoded(letters[:n_whole], letters))
        rest = letters[n_whole:]
        n_bytes += len(decoded[-1])
        if n_bytes + len(rest) * 3 // 4 > max_bytes:
            raise TooLargeError(f"The media has more than the {size(max_bytes)} allowed; send less.")
    return b"".join((*decoded, _decoded(rest + b"=" * (-len(rest) % 4), rest)))


def _letters(text: str) -> Iterator[bytes]:
    """Yields slices of the letters of base64, in the standard alphabet, without white space and padding."""
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


def _decoded(letters: bytes, around: bytes) -> bytes:
    """Decodes letters, around which lies the rest of what a person would call a letter."""
    try:
        return binascii.a2b_base64(letters, strict_mode=True)
    except binascii.Error as error:
        strange = around.translate(None, delete=_LETTERS)
        letter = strange.decode(errors="ignore")[:1] or f"%{strange[:1].hex()}"
        raise _no_base64(f"{letter!r} in it" if strange else "its end cut off") from error


def _no_base64(why: str) -> Base64Error:
    return Base64Error(f"The media is no base64: it has {why}; send its bytes in A to Z, a to z, 0 to 9, + and /.")
