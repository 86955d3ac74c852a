"""Stream time: what the camera lived through, in seconds from the first picture, strictly growing.

Timestamps in the wild are missing, wrap around, start anywhere and jump. There is one clock for each thing that may
state the time: presentation times, a playlist, or the moment at which a picture came. Clocks know no video library.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

LEAST_STEP_S = 1e-3
"""The least that stream time grows from one picture to the next, where the clock stands still."""

MAX_GAP_S = 3600.0
"""A longer gap between frames means that the clock was set, as by a camera that learns the date."""

MAX_LEAP_S = 10.0
"""A longer gap in a recording that may be joined of several is a leap from one to the next, if it is far longer than
those between its other frames; FFmpeg's own limit (`-dts_delta_threshold`)."""

MIN_SLACK_S = 1.0
"""How far presentation times may differ from a playlist whose segments are short: it may state whole seconds."""

_OUT_OF_RHYTHM = 10.0


class Clock(Protocol):
    """Returns the stream time of one picture after the other."""

    def __call__(self, pts_s: float | None, place: int | None = None) -> float:
        """Returns the stream time of the next picture.

        Args:
            pts_s: Its presentation time in seconds; None if it has none.
            place: How many bytes of the source lie before it, if that is known.
        """


class StreamClock:
    """Takes stream time from presentation times.

    A missing time, a step back (33-bit wrap, joined recordings) or a leap over `MAX_GAP_S` puts the frame one
    average frame after the one before; what follows a jump counts on from there.

    Args:
        rate: Frames a second on average.
        is_joined: Whether it may be a recording joined of several. Its leaps forward are closed too. In a live source
            they are pauses, and most containers of recordings mean the times that they state.
    """

    def __init__(self, rate: float, *, is_joined: bool = False) -> None:
        self._step_s = 1.0 / rate
        self._now_s = -self._step_s
        self._origin_s = math.inf  # every time lies before it, so the first one counts as a jump and sets it
        self._gaps_s: deque[float] | None = deque(maxlen=9) if is_joined else None

    def __call__(self, pts_s: float | None, place: int | None = None) -> float:
        """Returns the stream time of the next frame."""
        previous_s, self._now_s = self._now_s, self._now_s + self._step_s
        if pts_s is None:
            return self._now_s
        told_s = round(pts_s - self._origin_s, 6)  # rounded, or a whole second may be a hair less than a second
        if self._is_believed(told_s - previous_s):
            self._now_s = told_s
        else:
            self._origin_s = pts_s - self._now_s
        return self._now_s

    def _is_believed(self, gap_s: float) -> bool:
        if not 0 < gap_s <= MAX_GAP_S:
            return False
        if self._gaps_s is not None:
            if self._gaps_s and gap_s > max(MAX_LEAP_S, _OUT_OF_RHYTHM * median(self._gaps_s)):
                return False
            self._gaps_s.append(gap_s)
        return True


class ArrivalClock:
    """Takes stream time from the moment at which a picture began to come, for a source without other times.

    Args:
        came_s: Returns when the byte at a place came.
    """

    def __init__(self, came_s: Callable[[int], float]) -> None:
        self._came_s = came_s
        self._first_s: float | None = None
        self._now_s = -LEAST_STEP_S

    def __call__(self, pts_s: float | None, place: int | None = None) -> float:
        """Returns the stream time of the next picture; without a place, that is a tick after the one before."""
        self._now_s += LEAST_STEP_S
        if place is not None:
            came_s = self._came_s(place)
            self._first_s = came_s if self._first_s is None else self._first_s
            self._now_s = max(self._now_s, came_s - self._first_s)
        return self._now_s


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The stream time of a segment, as its playlist states it."""

    start_s: float
    stop_s: float


class PlaylistClock:
    """Takes stream time from a playlist: a segment begins where those before it end, and presentation times count on.

    They are believed while they stay within half a segment's length of where the playlist puts the segment. So the two
    never differ by more, whatever leaps are in the times, and however roughly lengths are stated.

    Args:
        span_at: Returns the span of the segment in which a place lies.
    """

    def __init__(self, span_at: Callable[[int], TimeSpan]) -> None:
        self._span_at = span_at
        self._span: TimeSpan | None = None
        self._now_s, self._step_s = -LEAST_STEP_S, LEAST_STEP_S
        self._pts_s, self._origin_s = -math.inf, math.inf

    def start_run(self) -> None:
        """Begins a run: presentation times count anew from here."""
        self._span, self._origin_s = None, math.inf

    def __call__(self, pts_s: float | None, place: int | None = None) -> float:
        """Returns the stream time of the next frame."""
        span = self._span if place is None else self._span_at(place)
        if span is not None and self._span is not None and span.start_s < self._span.start_s:
            span = self._span  # frames are shown in another order than they are sent in
        previous_s, self._now_s = self._now_s, self._now_s + self._step_s
        if pts_s is not None and span is not None:
            if not self._is_believed(pts_s, span):
                self._origin_s = pts_s - (self._now_s if span == self._span else span.start_s)
            self._now_s = round(max(pts_s - self._origin_s, previous_s + LEAST_STEP_S), 6)
            self._step_s = self._now_s - previous_s
            self._pts_s, self._span = pts_s, span
        return self._now_s

    def _is_believed(self, pts_s: float, span: TimeSpan) -> bool:
        slack_s = max(MIN_SLACK_S, (span.stop_s - span.start_s) / 2)
        latest_s = span.stop_s if span == self._span else span.start_s  # of its first frame
        return pts_s > self._pts_s and span.start_s - slack_s <= pts_s - self._origin_s <= latest_s + slack_s
