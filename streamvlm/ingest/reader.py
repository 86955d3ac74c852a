"""The interface of what reads a source: pictures with their stream times, converted only if they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from streamvlm.frame import Picture

Decoded = Callable[[], Picture]
"""Converts a decoded picture: most pictures are skipped, and converting costs more than decoding."""


class Reader(Iterable[tuple[float, Decoded]], Protocol):
    """Decodes one kind of source: yields every undamaged picture with its stream time, in order."""

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet."""

    @property
    def duration_s(self) -> float | None:
        """Its length in seconds of stream time, as far as it is stated; None if unknown or live."""

    @property
    def n_corrupt_packets(self) -> int:
        """Packets, or pictures, skipped so far because they were damaged."""

    @property
    def warning(self) -> str | None:
        """After the end, a sentence on what is wrong with the source; None if nothing is."""

    def close(self) -> None:
        """Closes the file, connection or device."""
