"""A sampled picture of a stream, and the fidelity at which it is remembered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""(height, width, 3) uint8 RGB."""


class Fidelity(StrEnum):
    """How much of a frame is kept: all visual tokens, pooled ones, or only the decision in the log."""

    CLEAR = "clear"
    FUZZY = "fuzzy"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled picture.

    Attributes:
        index: Position among the sampled frames of its stream, from 0.
        time_s: Stream time, seconds from the stream's start.
        picture: (height, width, 3) uint8 RGB.
        wall_s: Unix time at which a live frame was received, if known.
    """

    index: int
    time_s: float
    picture: Picture
    wall_s: float | None = None
