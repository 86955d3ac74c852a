"""Video without a container, recognised by how it begins.

FFmpeg would look at a mebibyte first, which a camera may take a minute to send.
"""

from __future__ import annotations

import re

_RAW = (
    ("mjpeg", re.compile(rb"\xff\xd8\xff")),
    ("h264", re.compile(rb"\0{2,3}\x01[\x09\x27\x47\x67]")),
    ("hevc", re.compile(rb"\0{2,3}\x01[\x40\x42\x44\x46]\x01")),
)
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)  # the others have no length, or are pixels
_APP2, _END = b"\xe2", b"\xd9"
_NEXT_JPEG = re.compile(rb"[\r\n\0]*\xff\xd8\xff")


def raw_format(head: bytes) -> str | None:
    """Returns FFmpeg's name for raw video that begins with ``head``; None if it is no JPEG, H.264 or HEVC."""
    return next((name for name, begins in _RAW if begins.match(head)), None)


def is_motion_jpeg(head: bytes) -> bool:
    """Whether the JPEG at the head of a file is followed by another one that is no second view of it (MPO)."""
    place = 2
    while head.startswith(b"\xff\xd8\xff") and (marker := _MARKER.search(head, place)) is not None:
        place = marker.end()
        if marker[1] == _END:
            return _NEXT_JPEG.match(head, place) is not None
        if marker[1] == _APP2 and head.startswith(b"MPF\0", place + 2):
            return False
        place += int.from_bytes(head[place : place + 2])
    return False
