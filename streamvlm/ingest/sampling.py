"""The sampling grid: arithmetic that keeps at most one frame for each of its slots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

from streamvlm.readable import TICK_S

T = TypeVar("T")

MAX_FPS = 1000.0
"""Matroska and FLV write times in whole milliseconds, so a finer grid has no meaning."""


def sample(timed: Iterable[tuple[float, T]], fps: float) -> Iterator[tuple[float, T]]:
    """Keep the first item at or after each slot time k / fps; an item that fills several slots is kept once.

    It may fill a slot by `TICK_S` too early, so that of 30 frames/s with rounded times, sampled at 30, all are kept.

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
