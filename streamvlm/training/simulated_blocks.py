"""Simulates what a gate keeps of a world: blocks of attribute posteriors, made without drawing a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from streamvlm.models.families.pocket.attributes import (
    GROUPS,
    N_ATTRIBUTES,
    NOTHING,
    REAL,
    SPAN,
    UNBADGED,
    clock_columns,
)
from streamvlm.models.families.pocket.pooling import pool_zones
from streamvlm.world.events import BADGES, COLOURS, SCENES, SHAPES, ZONES, Appearance, Thing, World

_COLUMN = {(group, name): SPAN[group].start + i for group, names in GROUPS.items() for i, name in enumerate(names)}
N_WORDS = len(GROUPS["word"])
WINDOW_BLOCKS = 8
"""Newest blocks that every question attends to."""


@dataclass(slots=True)
class SimulatedBlock:
    """One simulated block: its time, its fidelity, what it shows, and the words by which questions may name that."""

    time_s: float
    clear: bool
    posteriors: np.ndarray  # (visual tokens, N_ATTRIBUTES)
    shown: list[Appearance]
    keys: set[str]
    first_of: set[str]
    before: Appearance | None
    word: str | None
    parts: list[set[str]]


def confusable(world: World, rng: np.random.Generator) -> World:
    """Returns the same world in fewer colours, shapes, zones, badges and scenes, so that many things look alike."""
    colours, shapes, zones, badges, scenes = (_some(names, rng) for names in (COLOURS, SHAPES, ZONES, BADGES, SCENES))
    pool = list(product(colours, shapes))
    rng.shuffle(pool)
    kinds: dict[str, tuple[str, str]] = {}
    shown: list[Appearance] = []
    for a in world.appearances:
        colour, shape = kinds.setdefault(a.thing.name, pool[len(kinds) % len(pool)])
        free = [z for z in zones if not shown or z != shown[-1].zone]
        badge = a.thing.badge and str(rng.choice(badges))
        shown.append(replace(a, thing=Thing(colour, shape, badge), zone=str(rng.choice(free))))
    spans = tuple(replace(s, name=str(rng.choice(scenes))) for s in world.scenes)
    return replace(world, appearances=tuple(shown), scenes=spans, never_shown=tuple(pool))


def _some(names: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Draws a random part of ``names``: sometimes few, so that things look alike, sometimes all."""
    return list(rng.choice(names, int(rng.integers(4, len(names) + 1)), replace=False).tolist())


def as_seen(world: World, kept: Sequence[SimulatedBlock]) -> World:
    """Returns the world as far as its blocks show it, so that no question asks for what was left out."""
    seen = {id(a) for block in kept for a in block.shown}
    appearances = tuple(a for a in world.appearances if id(a) in seen)
    names = {(a.thing.colour, a.thing.shape) for a in appearances}
    never = tuple(kind for kind in world.never_shown if kind not in names)
    return replace(world, appearances=appearances, never_shown=never)


def shifted(world: World, by_s: float) -> World:
    """Returns the same world, ``by_s`` seconds later."""
    return replace(
        world,
        appearances=tuple(replace(a, start_s=a.start_s + by_s, end_s=a.end_s + by_s) for a in world.appearances),
        scenes=tuple(replace(s, start_s=s.start_s + by_s, end_s=s.end_s + by_s) for s in world.scenes),
        flashes_s=tuple(f + by_s for f in world.flashes_s),
        duration_s=world.duration_s + by_s,
    )


def gated(world: World, rng: np.random.Generator, noise: float, start_s: float, n_blocks: int) -> list[SimulatedBlock]:
    """Keeps frames as a curvature gate does: changes clear, little in between."""
    kept: list[SimulatedBlock] = []
    phase, max_gap_s, at_random = rng.uniform(0, 1), rng.uniform(5, 15), rng.choice([0.03, 0.08, 0.3])
    # In most clips time leaps among the older blocks alone: the window of a stream lies within a minute or two,
    # and that common minute must not outweigh the minute of the block which answers.
    leaps, leaps_until = (0.4, n_blocks - WINDOW_BLOCKS) if rng.random() < 0.6 else (0.15, n_blocks)
    seen: set[str] = set()
    last_state, last_s = None, start_s
    order: list[Appearance] = []
    photo_until, word = 0.0, None
    second = 0
    while len(kept) < n_blocks and second < world.duration_s - start_s:
        time_s = start_s + second + phase
        second += 1
        if word is None and rng.random() < 0.05:
            photo_until, word = time_s + rng.uniform(2, 8), str(rng.choice(GROUPS["word"]))
        if time_s > photo_until:
            word = None
        shown = [] if word else world.visible(time_s)
        for a in shown:
            if not order or (order[-1] is not a and a not in order):
                order.append(a)
        state = (word, world.scene(time_s).name, tuple(a.thing.name for a in shown))
        changed = state != last_state
        keep = (changed and rng.random() < 0.97) or time_s - last_s >= max_gap_s or rng.random() < at_random
        last_state = state
        if not keep:
            continue
        last_s = time_s
        spare_s = world.duration_s - start_s - second - 12 * (n_blocks - len(kept))
        if len(kept) < leaps_until and rng.random() < leaps and spare_s > 10:
            # Fetched blocks lie far apart, so that no time is a better guess than another.
            second += int(np.exp(rng.uniform(np.log(10), np.log(min(spare_s, 400)))))
        clear = rng.random() < (0.9 if changed else 0.35)
        # The thing before another can be known only while the window still shows it.
        recent = [a for block in kept[-WINDOW_BLOCKS:] for a in block.shown]
        befores = [b if (b := _one_before(order, a)) in (*recent, *shown) else None for a in shown]
        keys, first = _keys(world, time_s, shown, befores, word), set()
        for key in keys:
            if key not in seen:
                first.add(key)
        seen |= keys
        kept.append(
            SimulatedBlock(
                time_s,
                bool(clear),
                simulated_posteriors(world, time_s, shown, word, rng, noise, bool(clear)),
                shown,
                keys,
                first,
                befores[-1] if befores else None,
                word,
                [_parts(world, time_s, a) for a in shown],
            )
        )
    return kept


def _one_before(order: list[Appearance], a: Appearance) -> Appearance | None:
    at = order.index(a)
    return order[at - 1] if at else None


def _keys(
    world: World, time_s: float, shown: list[Appearance], befores: list[Appearance | None], word: str | None
) -> set[str]:
    keys = {f"word {word}"} if word else set()
    for a, before in zip(shown, befores, strict=True):
        keys |= {a.thing.name, f"{a.zone}|{world.scene(time_s).name}", f"{a.thing.shape}|{a.thing.badge}"}
        if before is not None:
            keys.add(f"after {before.thing.name}")
    return keys


def _parts(world: World, time_s: float, a: Appearance) -> set[str]:
    return {a.thing.colour, a.thing.shape, a.thing.badge or UNBADGED, a.zone, world.scene(time_s).name}


def simulated_posteriors(
    world: World,
    time_s: float,
    shown: list[Appearance],
    word: str | None,
    rng: np.random.Generator,
    noise: float,
    clear: bool,
) -> np.ndarray:
    """Simulates the eye's report of a moment: (10, attributes) rows of a clear block, (5, attributes) if fuzzy."""
    whole = np.zeros((1, N_ATTRIBUTES), np.float32)
    scene = REAL if word else world.scene(time_s).name
    _put(whole[0], "scene", scene, rng, noise)
    if word:
        whole[0, SPAN["word"]] = _word_posterior(word, rng)
    zones = np.zeros((len(ZONES), N_ATTRIBUTES), np.float32)
    at = {a.zone: a for a in shown}
    for row, zone in enumerate(ZONES):
        zones[row, _COLUMN["zone", zone]] = 1.0
        thing = at[zone].thing if zone in at else None
        for group, value in (
            ("colour", thing.colour if thing else NOTHING),
            ("shape", thing.shape if thing else NOTHING),
            ("badge", (thing.badge or UNBADGED) if thing else NOTHING),
        ):
            _put(zones[row], group, value, rng, noise)
    zones[:, SPAN["scene"]] = whole[:, SPAN["scene"]]
    rows = np.concatenate([whole, zones if clear else pool_zones(zones)])
    rows[:, clock_columns(time_s)] = 1.0
    return rows


def _put(row: np.ndarray, group: str, value: str, rng: np.random.Generator, noise: float) -> None:
    """Puts a one-hot with a good classifier's noise into a row: mostly sure, sometimes undecided or wrong."""
    span, n = SPAN[group], len(GROUPS[group])
    doubt = noise * rng.beta(0.3, 4.0)
    if rng.random() < 0.02 * noise:
        doubt = rng.uniform(0.3, 0.7)
    row[span] = doubt * rng.dirichlet(np.full(n, 0.3))
    row[_COLUMN[group, value]] += 1 - doubt


def _word_posterior(word: str, rng: np.random.Generator) -> np.ndarray:
    """Draws a sharpened word posterior whose largest entry is ``word``."""
    top = rng.uniform(0.4, 1.0)
    rest = rng.dirichlet(np.full(N_WORDS, 0.02)) * (1 - top)
    rest = np.minimum(rest, top * 0.8)
    rest[GROUPS["word"].index(word)] = top
    return rest.astype(np.float32)
