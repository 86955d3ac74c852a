"""The clip that every kind of input is made from, so that all of them have the same right answers.

A purple square in the top-left is followed by a red circle in the bottom-right, and that by a blue star in the
top-right: 12 seconds of the synthetic world.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from streamvlm.frame import Picture
from streamvlm.world.events import Appearance, SceneSpan, Thing, World
from streamvlm.world.render import render

_SHOWN = (("purple", "square", "top-left"), ("red", "circle", "bottom-right"), ("blue", "star", "top-right"))
_EACH_S = 4.0
_RATE = 2
_WORLD = World(
    seed=1,
    duration_s=12.0,
    appearances=tuple(
        Appearance(Thing(colour, shape, None), zone, i * _EACH_S, (i + 1) * _EACH_S)
        for i, (colour, shape, zone) in enumerate(_SHOWN)
    ),
    scenes=(SceneSpan("snow", 0.0, 12.0, 0.0),),
    flashes_s=(),
    never_shown=(),
)


@dataclass(frozen=True)
class Clip:
    """Pictures, and how many of them there are to a second.

    Attributes:
        pictures: (120, 160, 3) uint8 RGB each.
        rate: Pictures a second; those of 12 seconds may be shown faster, where somebody would have to wait for them.
    """

    pictures: tuple[Picture, ...]
    rate: Fraction = Fraction(_RATE)

    @property
    def times_s(self) -> list[float]:
        """When each picture is shown."""
        return [float(i / self.rate) for i in range(len(self.pictures))]


@cache
def whole() -> Clip:
    """All 12 seconds, 24 pictures."""
    pictures = (render(_WORLD, i / _RATE) for i in range(int(_WORLD.duration_s * _RATE)))
    return Clip(tuple(resized(picture, 160, 120) for picture in pictures))


def square() -> Picture:
    """A purple square in the top-left."""
    return whole().pictures[0]


def star() -> Picture:
    """A blue star in the top-right."""
    return whole().pictures[-1]


def resized(picture: Picture, width: int, height: int) -> Picture:
    """A picture at another size."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def erased(picture: Picture) -> NDArray[np.uint8]:
    """A picture as RGBA with a red circle in its bottom-left that cannot be seen, as its alpha is 0."""
    height, width = picture.shape[:2]
    with_alpha = np.dstack([picture, np.full((height, width), 255, np.uint8)])
    cv2.circle(with_alpha, (width // 6, height * 5 // 6), height // 5, (214, 32, 36, 0), -1)
    return with_alpha
