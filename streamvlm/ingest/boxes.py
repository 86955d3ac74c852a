"""The boxes of which MP4, QuickTime and AVIF files consist: ISO/IEC 14496-12."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

_HEAD = struct.Struct(">I4sQ")


def boxes_of(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the kind of each outermost box, and the place at which it ends: beyond the file's end, if that is cut."""
    n_bytes, place = file.seek(0, io.SEEK_END), 0
    while place + _HEAD.size <= n_bytes:
        file.seek(place)
        short, kind, long = _HEAD.unpack(file.read(_HEAD.size))
        place += max({0: n_bytes - place, 1: long}.get(short, short), 8)
        yield kind, place
