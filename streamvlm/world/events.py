"""The event log of a world: what is shown, where, in which scene, from when to when.

A world is made from a seed and a duration alone; rendering (``render.py``) and questions (``questions.py``)
read the log and add nothing to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring", "moon", "arrow")
BADGES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "go", "open", "exit", "stop", "sale", "free")
ZONES = (
    "top-left", "top", "top-right",
    "left", "centre", "right",
    "bottom-left", "bottom", "bottom-right",
)  # fmt: skip
SCENES = ("forest", "sea", "desert", "snow", "city", "night", "meadow", "wall")

KINDS = tuple(product(COLOURS, SHAPES))
N_NEVER_SHOWN = 12
"""Kinds of thing that a world never shows, so that questions can ask for something that never appeared."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of the world; ``badge`` is None when it carries none."""

    colour: str
    shape: str
    badge: str | None

    @property
    def name(self) -> str:
        """Colour and shape, which name a thing in questions."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Appearance:
    """One thing shown in one zone from ``start_s`` to ``end_s`` of stream time."""

    thing: Thing
    zone: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SceneSpan:
    """A background from ``start_s`` to ``end_s``; ``pan_px_per_s`` moves it sideways."""

    name: str
    start_s: float
    end_s: float
    pan_px_per_s: float


@dataclass(frozen=True, slots=True)
class PhotoSpan:
    """A photograph that fills the picture; ``words`` are all that rightly name it, the one that is said first."""

    name: str
    words: tuple[str, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class World:
    """The whole log of one stream.

    Attributes:
        seed: What the world, its rendering and its questions are made from.
        duration_s: Length of the stream in seconds.
        appearances: In order of ``start_s``; at most two are visible at a time, never in one zone.
        scenes: Cover the stream without gaps.
        flashes_s: Moments of one-frame white flashes.
        never_shown: (colour, shape) pairs that do not occur.
        photos: Photographs shown in between, while no thing is visible.
    """

    seed: int
    duration_s: float
    appearances: tuple[Appearance, ...]
    scenes: tuple[SceneSpan, ...]
    flashes_s: tuple[float, ...]
    never_shown: tuple[tuple[str, str], ...]
    photos: tuple[PhotoSpan, ...] = ()

    def photo(self, time_s: float) -> PhotoSpan | None:
        """Returns the photograph shown at ``time_s``; None if there is none."""
        return next((p for p in self.photos if p.start_s <= time_s < p.end_s), None)

    def visible(self, time_s: float) -> list[Appearance]:
        """Returns the appearances that are visible at ``time_s``."""
        return [a for a in self.appearances if a.start_s <= time_s < a.end_s]

    def scene(self, time_s: float) -> SceneSpan:
        """Returns the scene at ``time_s``; after the end, the last one."""
        return next((s for s in self.scenes if time_s < s.end_s), self.scenes[-1])


def make_world(seed: int, duration_s: float) -> World:
    """Makes a world of ``duration_s`` seconds from ``seed``."""
    rng = np.random.default_rng(seed)
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))]
    never_shown, showable = kinds[:N_NEVER_SHOWN], kinds[N_NEVER_SHOWN:]
    return World(
        seed=seed,
        duration_s=duration_s,
        appearances=tuple(_appearances(rng, duration_s, showable)),
        scenes=tuple(_scenes(rng, duration_s)),
        flashes_s=tuple(np.sort(rng.uniform(0, duration_s, rng.poisson(duration_s / 120))).tolist()),
        never_shown=tuple(never_shown),
    )


def with_photos(world: World, catalogue: Mapping[str, Collection[str]]) -> World:
    """Returns the same world with photographs in about every second pause between things.

    A photograph moves all that follows by its own length; what moves past the end is not shown.

    Args:
        world: One without photographs.
        catalogue: A photograph's name -> every word that rightly names it.
    """
    rng = np.random.default_rng([world.seed, 3])
    left = [sorted(catalogue)[i] for i in rng.permutation(len(catalogue))]
    ends = [a.end_s for a in world.appearances]
    pauses = [end for end in ends if not world.visible(end) and rng.random() < 0.5]
    later_s, photos = 0.0, list[PhotoSpan]()
    shifts: list[tuple[float, float]] = []  # (time in the old world, by how much everything from there on is later)
    for end_s, name in zip(pauses, left, strict=False):
        start_s, length_s = end_s + later_s + 0.5, float(rng.uniform(4, 9))
        photos.append(PhotoSpan(name, tuple(sorted(catalogue[name])), start_s, start_s + length_s))
        later_s += length_s + 0.5
        shifts.append((end_s, later_s))

    def moved(time_s: float) -> float:
        return time_s + max((by_s for from_s, by_s in shifts if time_s > from_s), default=0.0)

    last_s = world.duration_s
    return replace(
        world,
        appearances=tuple(
            replace(a, start_s=moved(a.start_s), end_s=min(moved(a.end_s), last_s))
            for a in world.appearances
            if moved(a.start_s) < last_s - 4
        ),
        scenes=tuple(replace(s, start_s=moved(s.start_s), end_s=moved(s.end_s)) for s in world.scenes),
        flashes_s=tuple(moved(f) for f in world.flashes_s),
        photos=tuple(p for p in photos if p.end_s < last_s),
    )


def _scenes(rng: np.random.Generator, duration_s: float) -> Iterator[SceneSpan]:
    start_s, name = 0.0, ""
    while start_s < duration_s:
        name = str(rng.choice([s for s in SCENES if s != name]))
        end_s = start_s + rng.uniform(25, 70)
        pan = float(rng.choice([0.0, 0.0, rng.uniform(-12, 12)]))
        yield SceneSpan(name, start_s, float(end_s), pan)
        start_s = float(end_s)


def _appearances(rng: np.random.Generator, duration_s: float, kinds: list[tuple[str, str]]) -> Iterator[Appearance]:
    fresh, used = list(kinds), list[tuple[str, str]]()
    time_s = rng.uniform(1, 4)
    while time_s < duration_s - 4:
        # In a long world new kinds are spread over the whole stream and seen ones return in between.
        events_left = max((duration_s - time_s) / 10, 1)
        if fresh and (not used or rng.random() < len(fresh) / events_left):
            used.append(fresh.pop())
            kind = used[-1]
        else:
            kind = used[int(rng.integers(len(used)))]
        zone = str(rng.choice(ZONES))
        end_s = min(time_s + rng.uniform(4, 12), duration_s)
        yield Appearance(_thing(rng, kind), zone, float(time_s), float(end_s))
        if fresh and rng.random() < 0.15 and end_s - time_s > 6:
            other = str(rng.choice([z for z in ZONES if z != zone]))
            used.append(fresh.pop())
            second_s = time_s + rng.uniform(2, 3)
            yield Appearance(_thing(rng, used[-1]), other, float(second_s), float(end_s))
        time_s = end_s + rng.uniform(1, 5)


def _thing(rng: np.random.Generator, kind: tuple[str, str]) -> Thing:
    badge = None if rng.random() < 0.15 else str(rng.choice(BADGES))
    return Thing(*kind, badge)
