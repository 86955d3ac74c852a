"""Tells files that are cut short from those that hold a whole picture but that Pillow calls damaged; repairs these."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice

from streamvlm.ingest.boxes import boxes_of

_END_OF_JPEG = b"\xff\xd9"
_MAX_BOXES = 64  # an AVIF has about five; hostile bytes could be nothing else
_MADE_UP = b"\xaa" * 64
_PNG_HEAD_BYTES, _RIFF_HEAD_BYTES = 8, 12
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"IDAT", b"fdAT", b"IEND")


def repairs_of(kind: str, data: bytes) -> Sequence[bytes]:
    """Repairs a damaged file in one or several ways; it was whole if all of them decode to the same picture.

    Args:
        kind: The `StillKind.name`.
        data: The file.

    Returns:
        The repaired files; none if it cannot be repaired.
    """
    if kind == "PNG":
        return [data[:_PNG_HEAD_BYTES] + b"".join(_chunks(data))]
    if kind == "JPEG":
        # It may lack only its end. If it lacks pixels too, the two ways differ: one makes them up.
        return [data.rstrip(b"\xff") + made_up + _END_OF_JPEG for made_up in (b"", _MADE_UP)]
    if kind == "WebP" and _is_whole_riff(data):
        return [data[:4] + struct.pack("<I", len(data) - 8) + data[8:]]  # its length was wrong
    return []


def is_cut_short(kind: str, data: bytes) -> bool:
    """Whether a file has fewer bytes than it says itself, where its kind says so: WebP and AVIF."""
    if kind == "WebP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    boxes = islice(boxes_of(io.BytesIO(data)), _MAX_BOXES) if kind == "AVIF" else ()
    return any(end > len(data) for _, end in boxes)


def _chunks(data: bytes) -> Iterator[bytes]:
    """Yields the chunks of a PNG that its picture needs; an optional one only if it is whole."""
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
