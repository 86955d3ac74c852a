"""What every kind of source is read by: pictures with their stream times, converted only if they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from streamvlm.frame import Picture

Decoded = Callable[[], Picture]
"""A decoded picture, not converted yet: most are passed over, and converting costs more than decoding."""


class Reader(Iterable[tuple[float, Decoded]], Protocol):
    """What decodes one kind of source: every clean picture with its stream time, in order."""

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet."""

    @property
    def duration_s(self) -> float | None:
        """Its length in seconds of stream time, as far as it is told; None if unknown or live."""

    @property
    def n_corrupt_packets(self) -> int:
        """Packets, or pictures, skipped so far because they were damaged."""

    @property
    def warning(self) -> str | None:
        """What there is to say of it once it has ended; None if all is well."""

    def close(self) -> None:
        """Let go of the file, connection or device."""
