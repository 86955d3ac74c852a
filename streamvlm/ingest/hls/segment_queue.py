"""The segments of an HLS playlist in order, each once, with its stream time.

Those of a live playlist come as they are added. It opens nothing itself: ``reload`` reads the playlist again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.clocks import MAX_GAP_S, TimeSpan
from streamvlm.ingest.hls.playlist import MediaPlaylist, MediaSegment

MAX_MISSING = 8
"""Segments in a row that cannot be read before reading fails: a live playlist may name some that are gone."""

LIVE_EDGE = 3
"""How many segments before its end reading of a live playlist begins (RFC 8216, 6.3.3)."""

_MIN_RELOAD_S = 0.1


@dataclass(frozen=True, slots=True)
class TimedSegment:
    """A segment, its stream time, and whether times, size and codec may differ from those of the one before."""

    segment: MediaSegment
    span: TimeSpan
    begins_run: bool


class SegmentQueue:
    """The segments of a media playlist that were not read yet.

    Stream time is the playlist's: a segment begins where those before it end. Where a live playlist states wall times,
    the time that passed at a discontinuity counts as well: it was a pause of the camera. In a recording it was a cut.

    Args:
        playlist: As it was first read.
        reload: Reads it again.
        name: Of the source, for messages.
        timeout_s: How long a live playlist may be overdue.

    Attributes:
        is_live: Whether more may be added.
        n_missing: Segments that could not be read.
        failure: Why the last of them could not; None if all could.
    """

    def __init__(
        self, playlist: MediaPlaylist, reload: Callable[[], MediaPlaylist], *, name: str, timeout_s: float
    ) -> None:
        self._reload, self._name, self._timeout_s = reload, name, timeout_s
        self.is_live = not playlist.is_whole
        self.n_missing = self._n_missing_in_a_row = 0
        self.failure: SourceError | None = None
        self._was_live = self.is_live
        self._waiting: deque[TimedSegment] = deque()
        self._is_closed = threading.Event()
        self._before: MediaSegment | None = None
        self._stop_s = 0.0
        self._wall_stop_s: float | None = None
        self._urls: dict[int, str] = {}
        self._target_s = playlist.target_s
        self._news_s = time.monotonic()
        self._due_s = self._news_s + self._target_s
        self._take_in(playlist.segments[-LIVE_EDGE:] if self.is_live else playlist.segments)

    def peek(self) -> TimedSegment | None:
        """Waits for the next segment and returns it; None at the end.

        Raises:
            SourceStalledError: If a live playlist is overdue.
        """
        while not self._waiting and self.is_live:
            self._is_closed.wait(self._due_s - time.monotonic())
            if self._is_closed.is_set():
                return None
            self._look_again()
        return self._waiting[0] if self._waiting else None

    def take(self) -> None:
        """Removes the next segment from the queue."""
        self._waiting.popleft()

    def missed(self, error: SourceError) -> None:
        """Counts a segment that could not be read; raises the error if there were too many in a row."""
        self.n_missing += 1
        self._n_missing_in_a_row += 1
        self.failure = error
        if self._n_missing_in_a_row >= MAX_MISSING:
            raise error

    def got(self) -> None:
        """Notes that a segment could be read."""
        self._n_missing_in_a_row = 0

    def close(self) -> None:
        """Ends all waiting."""
        self._is_closed.set()

    def _look_again(self) -> None:
        failure = None
        try:
            playlist = self._reload()
        except SourceError as error:  # a server may be busy for a moment
            failure, fresh = error, []
        else:
            fresh = self._fresh(playlist.segments)
            self._target_s, self.is_live = playlist.target_s, not playlist.is_whole
        now_s = time.monotonic()
        if fresh:
            self._news_s = now_s
            self._take_in(fresh)
        elif self.is_live and now_s > self._news_s + 2 * self._target_s + self._timeout_s:
            raise failure or SourceStalledError(
                f"{self._name} has named nothing new for {now_s - self._news_s:.0f} s; check that it is up."
            )
        self._due_s = now_s + max(_MIN_RELOAD_S, self._target_s if fresh else self._target_s / 2)

    def _fresh(self, listed: list[MediaSegment]) -> list[MediaSegment]:
        """Returns the new segments of a playlist; all of them if its server was restarted."""
        if self._before is None or self._has_restarted(listed):
            self._before = None
            return listed
        return [segment for segment in listed if segment.number > self._before.number]

    def _has_restarted(self, listed: list[MediaSegment]) -> bool:
        """Whether numbers count anew; a cache may only be behind by a few."""
        if not listed or self._before is None:
            return False
        n_behind = self._before.number - listed[-1].number
        n_ahead = listed[0].number - self._before.number
        is_other = any(self._urls.get(one.number, _bare(one)) != _bare(one) for one in listed)
        return (n_behind > 0 and is_other) or n_behind > len(listed) or n_ahead * self._target_s > MAX_GAP_S

    def _take_in(self, fresh: list[MediaSegment]) -> None:
        for segment in fresh:
            before = self._before
            begins_run = before is None or segment.is_cut or segment.head != before.head
            n_gone = 0 if before is None else segment.number - before.number - 1
            start_s = self._stop_s + self._passed_s(segment, n_gone, may_pause=begins_run or n_gone > 0)
            self.n_missing += n_gone
            self._stop_s = start_s + segment.duration_s
            self._waiting.append(TimedSegment(segment, TimeSpan(start_s, self._stop_s), begins_run))
            if segment.wall_s is not None:
                self._wall_stop_s = segment.wall_s
            if self._wall_stop_s is not None:
                self._wall_stop_s += segment.duration_s
            self._before = segment
        self._urls = {segment.number: _bare(segment) for segment in fresh}

    def _passed_s(self, segment: MediaSegment, n_gone: int, *, may_pause: bool) -> float:
        """Returns the seconds between the end of the segment before and this one."""
        if self._was_live and may_pause and segment.wall_s is not None and self._wall_stop_s is not None:
            passed_s = segment.wall_s - self._wall_stop_s
            if 0 < passed_s <= MAX_GAP_S:
                return passed_s
        return n_gone * self._target_s


def _bare(segment: MediaSegment) -> str:
    """Returns the URL of a segment without the tokens that change with each reading."""
    return segment.part.url.partition("?")[0]
