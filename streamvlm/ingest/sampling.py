"""Stream time and the sampling grid: pure arithmetic that knows no video library.

Timestamps in the wild are missing, wrap around, start anywhere and jump. `StreamClock` turns them into stream
time, which starts at 0 and only grows; `sample` then keeps at most one frame for each slot of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

MAX_FPS = 1000.0
"""Matroska and FLV write times in whole milliseconds: a finer grid has no meaning."""

TICK_S = 1e-3
"""How early a frame may fill a slot: that rounding twice, so that of 30 frames/s, sampled at 30, all stay."""

MAX_GAP_S = 3600.0
"""A longer gap between frames is taken for a clock that was set, as by a camera that learns the date."""


class StreamClock:
    """Turns presentation times into stream time: seconds from the first frame, strictly growing.

    A missing time, a step back (33-bit wrap, joined recordings) or a leap over `MAX_GAP_S` puts the frame one
    average frame after the one before; what follows a jump counts on from there.

    Args:
        rate: Frames a second on average.
    """

    def __init__(self, rate: float) -> None:
        self._step_s = 1.0 / rate
        self._now_s = -self._step_s
        self._origin_s = math.inf  # every time lies before it, so the first one counts as a jump and sets it

    def __call__(self, pts_s: float | None) -> float:
        """Return the stream time of the next frame, given its presentation time in seconds if it has one."""
        previous_s, self._now_s = self._now_s, self._now_s + self._step_s
        if pts_s is None:
            return self._now_s
        if 0 < pts_s - self._origin_s - previous_s <= MAX_GAP_S:
            self._now_s = pts_s - self._origin_s
        else:
            self._origin_s = pts_s - self._now_s
        return self._now_s


def sample(timed: Iterable[tuple[float, T]], fps: float) -> Iterator[tuple[float, T]]:
    """Keep the first item at or after each slot time k / fps, once, however many slots it fills.

    Args:
        timed: Pairs of growing stream time in seconds and anything.
        fps: Slots a second, in (0, `MAX_FPS`].
    """
    tolerance = min(TICK_S * fps, 0.5)
    next_slot = 0
    for time_s, item in timed:
        slot = math.floor(time_s * fps + tolerance)
        if slot >= next_slot:
            next_slot = slot + 1
            yield time_s, item
