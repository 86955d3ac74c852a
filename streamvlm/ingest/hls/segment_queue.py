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
from streamvlm.ingest.clocks import MAX_GAP_S, MIN_SLACK_S, TimeSpan
from streamvlm.ingest.hls.playlist import MediaPlaylist, MediaSegment

MAX_MISSING = 8
"""Segments in a row that cannot be read before reading fails: a live playlist may name some that are gone."""

LIVE_EDGE = 3
"""How many segments before its end reading of a live playlist begins (RFC 8216, 6.3.3)."""

_MIN_RELOAD_S = 0.1

_MAX_LATE = 2
"""How many of its longest segments a playlist may be late without a pause of the camera: servers are not punctual."""


@dataclass(frozen=True, slots=True)
class TimedSegment:
    """A segment, its stream time, and whether times, size and codec may differ from those of the one before."""

    segment: MediaSegment
    span: TimeSpan
    begins_run: bool


@dataclass(frozen=True, slots=True)
class PlaylistPlace:
    """How far a live playlist was read, for another connection to go on from there.

    Attributes:
        last: The last segment of which something came.
        lead_s: How far stream time, where the playlist ends, is ahead of a monotonic clock while the camera is on time.
        wall_origin_s: Wall time at which stream time began, as far as any was stated.
    """

    last: TimedSegment
    lead_s: float
    wall_origin_s: float | None


class SegmentQueue:
    """The segments of a media playlist that were not read yet.

    Stream time is the playlist's: a segment begins where those before it end. A pause of a live camera counts as well:
    by the wall times that are stated, or else by how late a segment is named. In a recording it was a cut.

    Args:
        playlist: As it was first read.
        reload: Reads it again.
        name: Of the source, for messages.
        timeout_s: How long a live playlist may be overdue.
        after: How far an earlier connection read it while it was live.
        now: A monotonic clock, in seconds.

    Attributes:
        is_live: Whether more may be added.
        was_live: Whether more were added, or may have been.
        n_missing: Segments that could not be read.
        failure: Why the last of them could not; None if all could.

    Raises:
        SourceStalledError: If a live playlist names nothing after that place yet.
    """

    def __init__(
        self,
        playlist: MediaPlaylist,
        reload: Callable[[], MediaPlaylist],
        *,
        name: str,
        timeout_s: float,
        after: PlaylistPlace | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reload, self._name, self._timeout_s, self._now = reload, name, timeout_s, now
        self.is_live = not playlist.is_whole
        self.was_live = self.is_live or after is not None
        self.n_missing = self._n_missing_in_a_row = 0
        self.failure: SourceError | None = None
        self._waiting: deque[TimedSegment] = deque()
        self._is_closed = threading.Event()
        self._before: MediaSegment | None = None
        self._stop_s = 0.0
        self._lead_s: float | None = None
        self._wall_origin_s: float | None = None
        self._taken: TimedSegment | None = None
        self._last = None if after is None else after.last
        self._urls: dict[int, str] = {}
        self._target_s = playlist.target_s
        self._news_s = now()
        self._due_s = self._news_s + self._target_s
        if after is None:
            self._take_in(playlist.segments[-LIVE_EDGE:] if self.is_live else playlist.segments)
        else:
            self._go_on(playlist.segments, after)

    @property
    def place(self) -> PlaylistPlace | None:
        """How far it was read while it was live; None if nothing of it was, or if it is a recording."""
        if not self.was_live or self._last is None or self._lead_s is None:
            return None
        return PlaylistPlace(self._last, self._lead_s, self._wall_origin_s)

    def peek(self) -> TimedSegment | None:
        """Waits for the next segment and returns it; None at the end.

        Raises:
            SourceStalledError: If a live playlist is overdue.
        """
        while not self._waiting and self.is_live:
            self._is_closed.wait(self._due_s - self._now())
            if self._is_closed.is_set():
                return None
            self._look_again()
        return self._waiting[0] if self._waiting else None

    def take(self) -> None:
        """Removes the next segment from the queue."""
        self._taken = self._waiting.popleft()

    def missed(self, error: SourceError) -> None:
        """Counts a segment that could not be read; raises an error if there were too many in a row."""
        self.n_missing += 1
        self._n_missing_in_a_row += 1
        self.failure = error
        if self._n_missing_in_a_row >= MAX_MISSING:
            raise self._lost(error)

    def got(self) -> None:
        """Notes that the segment which was taken could be read."""
        self._n_missing_in_a_row, self._last = 0, self._taken

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
        now_s = self._now()
        if fresh:
            self._news_s = now_s
            self._take_in(fresh)
        elif self.is_live and now_s > self._news_s + 2 * self._target_s + self._timeout_s:
            silence = f"{self._name} has named nothing new for {now_s - self._news_s:.0f} s; check that it is up."
            raise self._lost(failure or SourceStalledError(silence))
        self._due_s = now_s + max(_MIN_RELOAD_S, self._target_s if fresh else self._target_s / 2)

    def _lost(self, error: SourceError) -> SourceError:
        """Returns the error with which it is given up: a live playlist may come back, whatever its server says."""
        return SourceStalledError(str(error)) if self.is_live else error

    def _go_on(self, listed: list[MediaSegment], after: PlaylistPlace) -> None:
        """Takes in what follows a place, or the live edge of a camera that was restarted."""
        self._before, self._stop_s = after.last.segment, after.last.span.stop_s
        self._lead_s, self._wall_origin_s = after.lead_s, after.wall_origin_s
        fresh = self._fresh(listed)
        if listed and listed[-1].number < after.last.segment.number:  # too late for a cache that is behind
            self._before, fresh = None, listed
        if fresh and (self._before is None or fresh[0].is_cut):
            self._before, fresh = None, fresh[-LIVE_EDGE:]
        if self.is_live and not fresh:
            raise SourceStalledError(f"{self._name} names nothing new yet; check that it is up.")
        self._take_in(fresh)

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
        late_s = self._late_s(fresh)
        for segment in fresh:
            before = self._before
            begins_run = before is None or segment.is_cut or segment.head != before.head
            n_gone = 0 if before is None else segment.number - before.number - 1
            may_pause = self.was_live and (begins_run or n_gone > 0 or late_s > 0)
            passed_s = self._wall_gap_s(segment) if may_pause else None
            start_s = self._stop_s + (n_gone * self._target_s + late_s if passed_s is None else passed_s)
            late_s = 0.0
            self.n_missing += n_gone
            self._stop_s = start_s + segment.duration_s
            self._waiting.append(TimedSegment(segment, TimeSpan(start_s, self._stop_s), begins_run))
            if segment.wall_s is not None:
                self._wall_origin_s = segment.wall_s - start_s
            self._before = segment
        if fresh and self._lead_s is None:
            self._lead_s = self._stop_s - self._now()
        self._urls = {segment.number: _bare(segment) for segment in fresh}

    def _late_s(self, fresh: list[MediaSegment]) -> float:
        """Returns how long the camera paused before new segments: how late they end, if that is far too late."""
        if not fresh or self._lead_s is None:
            return 0.0
        n_gone = 0 if self._before is None else fresh[0].number - self._before.number - 1
        lasts_s = n_gone * self._target_s + sum(segment.duration_s for segment in fresh)
        late_s = self._now() + self._lead_s - self._stop_s - lasts_s
        return late_s if late_s > _MAX_LATE * max(self._target_s, MIN_SLACK_S) else 0.0

    def _wall_gap_s(self, segment: MediaSegment) -> float | None:
        """Returns the wall time between the end of the segment before and this one; None if none is stated."""
        if segment.wall_s is None or self._wall_origin_s is None:
            return None
        gap_s = segment.wall_s - self._wall_origin_s - self._stop_s
        return max(0.0, gap_s) if -MIN_SLACK_S < gap_s <= MAX_GAP_S else None


def _bare(segment: MediaSegment) -> str:
    """Returns the URL of a segment without the tokens that change with each reading."""
    return segment.part.url.partition("?")[0]
