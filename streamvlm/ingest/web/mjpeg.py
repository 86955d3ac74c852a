"""MJPEG as cameras send it over HTTP: one picture a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import isfinite

from streamvlm.errors import PictureError, SourceError
from streamvlm.ingest.clocks import ArrivalClock, Clock, StreamClock
from streamvlm.ingest.early_end import broken_off
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.reader import Decoded
from streamvlm.ingest.receiver import Receiver
from streamvlm.ingest.stills.still import StillReader
from streamvlm.ingest.web.multipart import BodyPart, Parts, is_cut_jpeg

MAX_BAD_PARTS = 250
"""Damaged pictures in a row after which reading fails."""

_RATE = 25.0
"""Pictures a second in a recording that does not state its rate, as FFmpeg assumes."""


class MultipartReader:
    """Decodes the pictures of a stream of parts.

    Stream time is what the sender states (`X-Timestamp`), or else the moment at which a picture began to come.

    Args:
        file: The stream; a `Receiver` if it is live. Closed with the reader.
        boundary: As it was announced; may be empty.
        name: Of the source, for messages.

    Attributes:
        duration_s: None: its length is not stated.
        n_corrupt_packets: Pictures skipped so far because they were damaged or cut short.
        warning: Says when the stream broke off if that was amid a picture; else None.
    """

    def __init__(self, file: IncomingBytes, boundary: str, *, name: str) -> None:
        self._file, self._name = file, name
        self._parts = Parts(file, boundary, name=name)
        self._clock = PartClock(file.came_s if isinstance(file, Receiver) else None)
        self.duration_s: float | None = None
        self.warning: str | None = None
        self.n_corrupt_packets = self._n_bad_in_a_row = 0

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet."""
        return isinstance(self._file, Receiver) and not self._file.has_ended

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yields (stream time in seconds, decoded picture) in order.

        Raises:
            SourceStalledError: If it stops sending.
            SourceError: If reading fails, or `MAX_BAD_PARTS` pictures in a row are damaged.
        """
        for part in self._parts:
            kind = part.headers.get("content-type", "image/")
            if part.body and kind.lower().startswith(("image/", "application/octet-stream")):
                if (decoded := self._decode(part)) is not None:
                    yield self._time_of(part), decoded
                elif not part.is_whole:
                    self.warning = broken_off(self._name, self._time_of(part))
                self._file.expect()

    def close(self) -> None:
        """Closes the connection or file."""
        self._file.close()

    def _time_of(self, part: BodyPart) -> float:
        return self._clock(part.headers.get("x-timestamp", ""), part.place)

    def _decode(self, part: BodyPart) -> Decoded | None:
        if part.is_whole or not is_cut_jpeg(part.body):
            with suppress(PictureError):
                _, decoded = next(iter(StillReader(part.body, name=self._name)))
                self._n_bad_in_a_row = 0
                return decoded
        self.n_corrupt_packets += 1
        self._n_bad_in_a_row += 1
        if self._n_bad_in_a_row >= MAX_BAD_PARTS:
            raise SourceError(f"{self._name} sends damaged pictures: {MAX_BAD_PARTS} in a row; check the link.")
        return None


class PartClock:
    """Gives the stream time of parts: the time that they state, if that goes forward, else the time at which they came.

    The second part decides which, and the unit as well: some cameras state seconds with a fraction, others
    milliseconds.

    Args:
        came_s: Returns when the byte at a place came; None for a recording.
    """

    def __init__(self, came_s: Callable[[int], float] | None) -> None:
        self._came_s = came_s
        self._first: tuple[str, int] | None = None
        self._clock: Clock | None = None
        self._unit_s: float | None = None

    def __call__(self, stated: str, place: int) -> float:
        """Returns the stream time of the next part.

        Args:
            stated: Its `X-Timestamp`; empty if it has none.
            place: How many bytes lie before its body.
        """
        if self._first is None:
            self._first = stated, place
            return 0.0
        if self._clock is None:
            self._unit_s = self._unit(stated, place)
            if self._unit_s is None and self._came_s is not None:
                self._clock = ArrivalClock(self._came_s)
            else:
                self._clock = StreamClock(_RATE)
            self._tell(self._clock, *self._first)
        return self._tell(self._clock, stated, place)

    def _tell(self, clock: Clock, stated: str, place: int) -> float:
        value = _number(stated)
        return clock(None if value is None or self._unit_s is None else value * self._unit_s, place)

    def _unit(self, stated: str, place: int) -> float | None:
        """Returns the unit of the stated times; None if there are none, or they stand still."""
        assert self._first is not None, "the unit shows with the second part"
        first, value = _number(self._first[0]), _number(stated)
        if first is None or value is None or value <= first:
            return None
        if "." in stated:
            return 1.0
        passed_s = 0.0 if self._came_s is None else self._came_s(place) - self._came_s(self._first[1])
        is_fine = value - first >= 10 and value - first > 30 * passed_s  # no two pictures are that many seconds apart
        return 1e-6 if value >= 1e14 else 1e-3 if value >= 1e11 or is_fine else 1.0


def _number(text: str) -> float | None:
    with suppress(ValueError):
        value = float(text)
        return value if isfinite(value) else None
    return None
