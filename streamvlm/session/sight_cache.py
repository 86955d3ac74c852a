"""Looks at every picture of a stream once: one that shows what the last one did is not looked at again.

A slideshow, a time lapse or a desk at night repeats each picture for minutes, and looking is what costs most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from streamvlm.frame import Picture
from streamvlm.models.base import Sight
from streamvlm.session.steps import Look, Work

SAME_LEVELS, SAME_PX_LEVELS = 3, 12
"""How far, of 255, the means of 16 x 16 pixels and any single pixel may be from those of the picture looked at last: as
far as x264 redraws a still picture from one key frame to the next, which moves a feature by less than the gate's noise
floor. What is drawn worse is looked at again."""

MOST_BYTES = 1 << 25
"""Larger pictures (4K has 24.9 MB) are looked at each time: the last one has to be held to be compared with."""

_Levels = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture, and the means of its squares."""

    picture: Picture
    means: _Levels

    @classmethod
    def of(cls, picture: Picture) -> Self:
        return cls(picture, np.asarray(Image.fromarray(picture).reduce(16), np.int16))

    def is_like(self, other: Self) -> bool:
        if self.picture.shape != other.picture.shape or self.picture.nbytes > MOST_BYTES:
            return False
        if int(np.abs(self.means - other.means).max()) > SAME_LEVELS:
            return False
        above, below = np.maximum(self.picture, other.picture), np.minimum(self.picture, other.picture)
        return int((above - below).max()) <= SAME_PX_LEVELS


class SightCache:
    """The picture of one stream that was looked at last, and what was seen in it."""

    def __init__(self) -> None:
        self._last: tuple[_Shown, Sight] | None = None

    def look(self, pictures: Sequence[Picture]) -> Work[list[Sight]]:
        """Returns what is seen in the next pictures, at least one; wants a look at those that are new."""
        last = self._last[0] if self._last is not None else None
        new: list[Picture] = []
        n_new: list[int] = []
        for shown in map(_Shown.of, pictures):
            if last is None or not shown.is_like(last):
                new.append(shown.picture)
                last = shown
            n_new.append(len(new))
        seen: list[Sight] = (yield Look(new)) if new else []
        sights = [self._last[1] if self._last is not None else seen[0], *seen]
        if last is not None and new:  # a copy, as the picture's memory may be used for the next one
            is_held = last.picture.nbytes <= MOST_BYTES
            self._last = (_Shown(last.picture.copy(), last.means), seen[-1]) if is_held else None
        return [sights[n] for n in n_new]
