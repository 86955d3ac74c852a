"""The binary frame message: a picture with its place in the stream, as client and server exchange it.

A JPEG in base64 inside JSON costs a third more bytes and half the rate; so one binary WebSocket message is one
picture: 24 bytes of header, big endian, then the file, a JPEG, PNG, WebP or another, as it is.

    offset  0    2        3      4         8         16         24
            SV   version  flags  sequence  time      captured   picture …
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Self

from streamvlm.errors import UsageError

MAGIC = b"SV"
VERSION = 1


class Flag(IntFlag):
    """Which fields of the header are set; a time that is not set is 0 and means nothing."""

    TIME = 1
    CAPTURED = 2


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A field of the header; fields follow one another without gaps.

    Attributes:
        name: With its unit.
        code: Its type, as `struct` writes it.
        meaning: In a sentence.
        always: Its value in every message; None if it differs.
        flag: Set if the field is set; None for a field that always is.
    """

    name: str
    code: str
    meaning: str
    always: bytes | int | None = None
    flag: Flag | None = None


BYTE_ORDER = ">"
"""Big endian, as `struct` writes it."""

HEADER = (
    HeaderField("magic", "2s", "Marks a frame message.", always=MAGIC),
    HeaderField("version", "B", "Of this layout.", always=VERSION),
    HeaderField("flags", "B", "Which times are told; other bits are 0."),
    HeaderField("sequence", "I", "The sender's count of its frames; errors name it."),
    HeaderField("time_us", "Q", "Stream time, microseconds; if not told, the receiver's clock says.", flag=Flag.TIME),
    HeaderField("captured_us", "Q", "Unix time of capture, microseconds.", flag=Flag.CAPTURED),
)
_HEADER = struct.Struct(BYTE_ORDER + "".join(field.code for field in HEADER))


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One frame between client and server.

    Attributes:
        sequence: The sender's count of its frames, in [0, 2**32); errors name it.
        picture: A file of a still picture; of an animation, those that follow come at their times after the first one.
        time_s: Stream time, seconds >= 0, to the microsecond; None leaves it to the receiver's clock.
        captured_s: Unix time of capture, to the microsecond, if known.
    """

    sequence: int
    picture: bytes
    time_s: float | None = None
    captured_s: float | None = None

    def pack(self) -> bytes:
        """Returns the message's bytes."""
        flags = Flag.TIME * (self.time_s is not None) | Flag.CAPTURED * (self.captured_s is not None)
        times = (round((seconds or 0.0) * 1e6) for seconds in (self.time_s, self.captured_s))
        return _HEADER.pack(MAGIC, VERSION, flags, self.sequence, *times) + self.picture

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """Reads the frame in a message; the picture is not decoded.

        Raises:
            UsageError: If it is no frame message, or of another version.
        """
        if len(message) <= _HEADER.size or not message.startswith(MAGIC):
            raise UsageError(
                f"A binary message is {_HEADER.size} bytes of header that begin with {MAGIC!r}, then a picture; "
                f"this one of {len(message)} bytes is not."
            )
        _, version, flags, sequence, time_us, captured_us = _HEADER.unpack_from(message)
        if version != VERSION:
            raise UsageError(f"The frame message is of version {version}; send version {VERSION}.")
        return cls(
            sequence,
            message[_HEADER.size :],
            time_us / 1e6 if flags & Flag.TIME else None,
            captured_us / 1e6 if flags & Flag.CAPTURED else None,
        )
