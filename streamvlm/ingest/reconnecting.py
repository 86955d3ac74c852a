"""A source that is opened again when it stalls or drops, as cameras do, until a time limit."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Protocol

from streamvlm.errors import SourceError, SourceLostError, SourceStalledError
from streamvlm.frame import Frame
from streamvlm.ingest.early_end import clock
from streamvlm.ingest.hls.segment_queue import PlaylistPlace
from streamvlm.ingest.source import FrameSource

RECONNECT_S = 30.0
"""How long a source that stalled or dropped is tried again by default: as long as a camera takes to reboot."""

_DELAYS_S = (0.5, 1.0, 2.0, 4.0)
_STEADY_S = 5.0
"""After a connection that held for so long, tries begin anew; a shorter one continues those before it."""


class Opens(Protocol):
    """How a source is opened: `open_source`, all other arguments given."""

    def __call__(self, *, after: PlaylistPlace | None = None) -> FrameSource:
        """Opens it, a live playlist after the place up to which it was read."""


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest frame: its stream time, its time on a monotonic clock, and its wall time."""

    time_s: float
    at_s: float
    wall_s: float


class ReconnectingSource(Iterator[Frame]):
    """Sampled frames of a source, over as many connections as it takes, once through.

    While nothing comes from a live source, stream time passes. A recording goes on where it broke off, and a live
    playlist after the last segment that was watched.

    Args:
        opens: Opens the source; called at once, and again for each new try.
        reconnect_s: How long to go on trying after it stalled or dropped; with 0 there is no second try. A try that has
            begun may take as long as the source's own timeout.
        from_s: Stream time at which it begins.
        tell: Gets a sentence when the source is lost, and when it is back.

    Raises:
        SourceError: If it cannot be opened.
    """

    def __init__(
        self,
        opens: Opens,
        *,
        reconnect_s: float = RECONNECT_S,
        from_s: float = 0.0,
        tell: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._opens, self._reconnect_s, self._from_s, self._tell = opens, reconnect_s, from_s, tell
        self._is_stopped = threading.Event()
        self._newest: _Newest | None = None
        self._n_frames = self._n_corrupt_before = 0
        self._was_live = False
        self._until_s = self._connected_s = -math.inf
        self._delays_s: Iterator[float] = iter(())
        self._source = opens()
        self._frames = self._read()

    @property
    def uri(self) -> str:
        """See ``FrameSource``."""
        return self._source.uri

    @property
    def duration_s(self) -> float | None:
        """See ``FrameSource``."""
        return self._source.duration_s

    @property
    def is_live(self) -> bool:
        """See ``FrameSource``."""
        return self._source.is_live

    @property
    def n_corrupt_packets(self) -> int:
        """See ``FrameSource``; over all connections, but once for a recording, which each reads from its beginning."""
        n_before, n_now = self._n_corrupt_before, self._source.n_corrupt_packets
        return n_before + n_now if self._was_live else max(n_before, n_now)

    @property
    def warning(self) -> str | None:
        """See ``FrameSource``."""
        return self._source.warning

    def __next__(self) -> Frame:
        """Returns the next sampled frame.

        Raises:
            SourceLostError: If it broke off and did not come back.
            SourceError: If it ends before the first frame.
        """
        return next(self._frames)

    def stop(self) -> None:
        """Ends the frames, from any thread; see ``FrameSource.stop``."""
        self._is_stopped.set()
        self._source.stop()

    def close(self) -> None:
        """Closes the file, connection or device; no more frames come."""
        self._frames.close()
        self._source.close()

    def _read(self) -> Generator[Frame, None, None]:
        frames = self._new_frames(None, is_live=False)
        while True:
            try:
                yield from frames
                return
            except SourceError as error:
                if self._newest is None:
                    raise
                frames = self._come_back(error, self._newest)

    def _come_back(self, loss: SourceError, newest: _Newest) -> Iterator[Frame]:
        """Returns the frames of the next connection that has some; none if the source was stopped."""
        if not isinstance(loss, SourceStalledError):  # as of a damaged file
            raise SourceLostError(f"{loss} It was watched up to {clock(newest.time_s)}.") from None
        if time.monotonic() - self._connected_s > _STEADY_S:
            self._until_s = time.monotonic() + self._reconnect_s
            self._delays_s = chain(_DELAYS_S, repeat(_DELAYS_S[-1]))
        if (left_s := self._until_s - time.monotonic()) > 0:
            self._tell(f"{loss} Trying again for {left_s:.0f} s.")
        is_live = self.is_live  # as far as that showed
        while (left_s := self._until_s - time.monotonic()) > 0:
            if self._is_stopped.wait(min(next(self._delays_s), left_s)):
                return iter(())
            try:
                goes_on = self._reopen(is_live=is_live)
                if self._is_stopped.is_set():
                    return iter(())
                frames = self._new_frames(newest, is_live=is_live and not goes_on)
                first = next(frames, None)
            except SourceError:
                continue
            if not is_live:
                self._n_corrupt_before = 0  # all that was read before was read again
            if first is None:
                return iter(())  # what was left of it held no picture more
            self._tell(f"{self.uri} is back.")
            return chain([first], frames)
        raise SourceLostError(self._silence(newest)) from None

    def _reopen(self, *, is_live: bool) -> bool:
        """Opens it again; returns whether its own times go on, as those of a live playlist do."""
        self._source.close()
        n_corrupt, place = self.n_corrupt_packets, self._source.place
        self._source = self._opens(after=place)
        self._n_corrupt_before, self._was_live, self._connected_s = n_corrupt, is_live, time.monotonic()
        return place is not None and self._source.place is not None

    def _new_frames(self, before: _Newest | None, *, is_live: bool) -> Iterator[Frame]:
        """Yields the frames of this connection, without those of a recording that an earlier connection gave.

        Args:
            before: The newest frame before it; None if there was none.
            is_live: Whether time has passed since.
        """
        from_s = self._from_s
        for frame in self._source:
            now_s = time.monotonic()
            if before is not None and not is_live and from_s + frame.time_s <= before.time_s:
                continue
            if before is not None and is_live:
                from_s, before = before.time_s + now_s - before.at_s - frame.time_s, None
            self._newest = _Newest(from_s + frame.time_s, now_s, time.time())
            index, self._n_frames = self._n_frames, self._n_frames + 1
            yield replace(frame, index=index, time_s=self._newest.time_s)

    def _silence(self, newest: _Newest) -> str:
        length = "" if self.duration_s is None else f" of {clock(self._from_s + self.duration_s)}"
        at = time.strftime("%H:%M:%S", time.localtime(newest.wall_s))
        return f"Nothing has come from {self.uri} since {clock(newest.time_s)}{length} ({at}); check that it is up."
