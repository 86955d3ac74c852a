"""A run of segments of an HLS playlist, as one file.

A run can be decoded in one go: it ends at a discontinuity, or at another initialization section.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.clocks import TimeSpan
from streamvlm.ingest.hls.decryption import BLOCK_BYTES, Decryption
from streamvlm.ingest.hls.location import PlaylistLocation
from streamvlm.ingest.hls.playlist import Key, Part
from streamvlm.ingest.hls.segment_queue import SegmentQueue
from streamvlm.ingest.incoming_bytes import IncomingBytes

_MAX_SPANS = 4096
_MAX_KEYS = 64


class SegmentKeys:
    """The keys of a source, each fetched once."""

    def __init__(self, location: PlaylistLocation, *, name: str) -> None:
        self._location, self._name = location, name
        self._known: dict[str, bytes] = {}

    def decryption(self, key: Key, number: int) -> Decryption:
        """Returns what decrypts the segment of a number.

        Raises:
            SourceError: If its key cannot be read, or is no key.
        """
        if key.url not in self._known:
            value, _ = self._location.read(Part(key.url), max_bytes=BLOCK_BYTES)
            if len(value) != BLOCK_BYTES:
                raise SourceError(f"{self._name} has a key of {len(value)} bytes where AES-128 has {BLOCK_BYTES}.")
            if len(self._known) == _MAX_KEYS:
                self._known.clear()
            self._known[key.url] = value
        return Decryption(self._known[key.url], key.iv or number.to_bytes(BLOCK_BYTES, "big"))


class SegmentRun(IncomingBytes):
    """The next segments of a queue, up to the beginning of another run, as one file.

    A segment that cannot be read is skipped, and counted by the queue.

    Args:
        queue: Gives the segments; the next one begins the run.
        location: Opens them.
        keys: Of those that are encrypted.
        name: Of the source, for messages.
    """

    def __init__(self, queue: SegmentQueue, location: PlaylistLocation, keys: SegmentKeys, *, name: str) -> None:
        super().__init__(name, timeout_s=float("inf"))  # queue and parts have their own
        self._queue, self._location, self._keys = queue, location, keys
        self._parts: deque[tuple[Part, Key | None]] = deque()
        self._file: IncomingBytes | None = None
        self._decryption: Decryption | None = None
        self._number = self._n_bytes = 0
        self._has_begun = self._has_head = False
        self._places: list[int] = []
        self._spans: list[TimeSpan] = []

    def span_at(self, place: int) -> TimeSpan:
        """Returns the span of the segment that holds a byte that was read, by its place in the run."""
        return self._spans[max(0, bisect_right(self._places, place) - 1)]

    def expect(self) -> None:
        """Starts the timeout."""
        super().expect()
        if self._file is not None:
            self._file.expect()

    def close(self) -> None:
        """Closes the segment that is being read."""
        if self._file is not None:
            self._file.close()
        super().close()

    def _receive(self) -> bytes:
        while self._file is not None or self._begin_part():
            if piece := self._next_piece():
                self._n_bytes += len(piece)
                return piece
        return b""

    def _begin_part(self) -> bool:
        """Opens the next part; returns False at the end of the run."""
        while not self._parts:
            if not self._begin_segment():
                return False
        part, key = self._parts.popleft()
        try:
            self._decryption = None if key is None else self._keys.decryption(key, self._number)
            self._file = self._location.open(part)
        except SourceError as error:
            self._miss(error)
        return True

    def _begin_segment(self) -> bool:
        """Goes on to the next segment; returns False if that begins another run."""
        try:
            timed = self._queue.peek()
        except SourceStalledError:
            if not self._n_bytes:
                raise
            return False  # what came is shown first
        if timed is None or (timed.begins_run and self._has_begun):
            return False
        self._queue.take()
        self._has_begun = True
        segment, self._number = timed.segment, timed.segment.number
        if not segment.is_gap:
            if segment.head is not None and not self._has_head:
                self._parts.append((segment.head.part, segment.head.key))
                self._has_head = True
            self._parts.append((segment.part, segment.key))
            self._places.append(self._n_bytes)
            self._spans.append(timed.span)
            if len(self._spans) > _MAX_SPANS:
                del self._places[: _MAX_SPANS // 2], self._spans[: _MAX_SPANS // 2]
        return True

    def _next_piece(self) -> bytes:
        """Returns the next bytes of the open part; none if there is none or it ends."""
        if self._file is None:
            return b""
        try:
            piece = self._file.read()
        except SourceError as error:
            self._miss(error)
            piece = b""
        if piece:
            self._queue.got()
            return piece if self._decryption is None else self._decryption.update(piece)
        self._file.close()
        self._file = None
        return b"" if self._decryption is None else self._decryption.finish()

    def _miss(self, error: SourceError) -> None:
        """Skips what is left of a segment."""
        self._parts.clear()
        self._has_head = self._n_bytes > 0
        self._queue.missed(error)
