"""Files that hold a whole picture, and which Pillow calls damaged all the same."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

_END_OF_JPEG = b"\xff\xd9"
_MADE_UP = b"\xaa" * 64
_PNG_HEAD_BYTES, _RIFF_HEAD_BYTES = 8, 12
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND")


def mended(kind: str, data: bytes) -> Sequence[bytes]:
    """What a damaged file may have been meant as: it was whole if all of these can be decoded to one picture.

    Args:
        kind: As `StillKind.name`.
        data: The file.

    Returns:
        Nothing where there is no hope.
    """
    if kind == "PNG":
        return [data[:_PNG_HEAD_BYTES] + b"".join(_chunks(data))]
    if kind == "JPEG":
        # It may lack no more than its end. If it lacks pixels too, what is made up in their place shows.
        return [data.rstrip(b"\xff") + made_up + _END_OF_JPEG for made_up in (b"", _MADE_UP)]
    if kind == "WebP" and _is_whole_riff(data):
        return [data[:4] + struct.pack("<I", len(data) - 8) + data[8:]]  # what said its length was wrong
    return []


def _chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a PNG that make its picture; those that also may be absent only if they are whole."""
    place = _PNG_HEAD_BYTES
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunk = data[place : place + length + 12]
        kind, is_critical = chunk[4:8], chunk[4:5].isupper()
        if kind in _NEEDED and (is_critical or chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))):
            yield chunk
        place += len(chunk)


def _is_whole_riff(data: bytes) -> bool:
    place = _RIFF_HEAD_BYTES
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        place += 8 + length + length % 2
    return place == len(data)
