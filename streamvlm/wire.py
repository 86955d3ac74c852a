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
    """What of the header is told; a time that is not is 0 and means nothing."""

    TIME = 1
    CAPTURED = 2


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A field of the header; they lie one behind the other.

    Attributes:
        name: With its unit.
        code: Its type in the words of `struct`.
        meaning: In a sentence.
        always: What it holds in every message; None where that differs.
        flag: Set where the field is told; None for what always is.
    """

    name: str
    code: str
    meaning: str
    always: bytes | int | None = None
    flag: Flag | None = None


BYTE_ORDER = ">"
"""Big endian, in the words of `struct`."""

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
    """One picture on its way.

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
        """The message as it is sent."""
        flags = Flag.TIME * (self.time_s is not None) | Flag.CAPTURED * (self.captured_s is not None)
        times = (round((seconds or 0.0) * 1e6) for seconds in (self.time_s, self.captured_s))
        return _HEADER.pack(MAGIC, VERSION, flags, self.sequence, *times) + self.picture

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """The frame that a message holds; the picture is not looked at.

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
