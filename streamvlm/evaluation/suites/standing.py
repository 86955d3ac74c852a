"""Standing questions on the synthetic world: do they fire when a thing appears, soon, once, and at no other time?

Each held-out world is watched at 1 frame/s with several questions armed, for things that appear and for things that
never do. An event is one appearance of a thing that is asked about. The first firing while the thing is there tells the
event; every other firing is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamvlm.evaluation.suites.world import HELD_OUT_SEED
from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.session import Session
from streamvlm.session.standing_question import ArmedQuestion, StandingQuestion, check
from streamvlm.world.events import World, make_world
from streamvlm.world.grammar import with_articles
from streamvlm.world.render import render

IN_TIME_S = 2.0
N_NEVER = 2
"""How many questions of a world ask for things that never appear."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One standing question over one world.

    Attributes:
        name: The thing that it asked for.
        events: Spans (from, to) in which the thing was there.
        fired_s: Times at which it fired.
    """

    name: str
    events: Sequence[tuple[float, float]]
    fired_s: Sequence[float]

    @property
    def latencies_s(self) -> list[float | None]:
        """Seconds from the start of each event to the firing that told it; None if there was none."""
        told = [[t for t in self.fired_s if start_s <= t <= end_s] for start_s, end_s in self.events]
        return [own[0] - event[0] if own else None for own, event in zip(told, self.events, strict=True)]

    @property
    def n_false(self) -> int:
        """How many firings told no event, or one that had been told already."""
        return len(self.fired_s) - sum(latency_s is not None for latency_s in self.latencies_s)


def run_standing_suite(
    model: VideoLanguageModel,
    standing: StandingQuestion,
    *,
    seeds: Sequence[int],
    duration_s: float,
    n_questions: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Watch]:
    """Watches one held-out world a seed with ``n_questions`` armed; ``{name}`` in the question stands for the thing."""
    runner = ModelRunner(model)
    watches: list[Watch] = []
    for seed in seeds:
        world = make_world(HELD_OUT_SEED + seed, duration_s)
        names = _draw_names(world, n_questions, np.random.default_rng([seed, 4]))
        watches += _watch(runner, world, names, standing)
        n_told = sum(latency_s is not None for watch in watches for latency_s in watch.latencies_s)
        n_events, n_false = sum(len(watch.events) for watch in watches), sum(watch.n_false for watch in watches)
        progress(f"world {seed}: {n_told} of {n_events} events told, {n_false} false alarms so far")
    return watches


def summarise(watches: Sequence[Watch], hours: float) -> dict[str, Any]:
    """Returns how many events were told, how soon, and how many false alarms came in these hours of stream."""
    latencies = [latency_s for watch in watches for latency_s in watch.latencies_s]
    told = [latency_s for latency_s in latencies if latency_s is not None]
    n_false = sum(watch.n_false for watch in watches)
    return {
        "events": len(latencies),
        f"told within {IN_TIME_S:g} s": float(np.mean([t is not None and t <= IN_TIME_S for t in latencies])),
        "told late": sum(t > IN_TIME_S for t in told),
        "missed": len(latencies) - len(told),
        "latency_s, median": float(np.median(told)),
        "latency_s, worst": float(np.max(told)),
        "false alarms": n_false,
        "false alarms an hour of stream": n_false / hours,
        "questions armed": len(watches),
    }


def _draw_names(world: World, n: int, rng: np.random.Generator) -> list[str]:
    shown = sorted({shown.thing.name for shown in world.appearances})
    never = [f"{colour} {shape}" for colour, shape in world.never_shown]
    drawn = [shown[i] for i in rng.permutation(len(shown))[: max(0, n - N_NEVER)]]
    return drawn + [never[i] for i in rng.permutation(len(never))[: n - len(drawn)]]


def _watch(runner: ModelRunner, world: World, names: Sequence[str], standing: StandingQuestion) -> list[Watch]:
    session = Session(runner.model, SessionConfig(), runner=runner)
    fired: dict[str, list[float]] = {name: [] for name in names}
    questions = {name: with_articles(standing.question.format(name=name)) for name in names}
    armed_questions = [
        ArmedQuestion(name, replace(standing, question=question)) for name, question in questions.items()
    ]
    size = session.config.chunk_frames
    for start in range(0, int(world.duration_s), size):
        seconds = range(start, min(start + size, int(world.duration_s)))
        chunk = [Frame(second, float(second), render(world, float(second))) for second in seconds]
        for seen in runner.run(session.watcher.watch(chunk)):
            for armed, told in runner.run(check(runner, armed_questions, seen)):
                fired[armed.standing_id].append(told.time_s)
    return [Watch(name, _events(world, name), fired[name]) for name in names]


def _events(world: World, name: str) -> list[tuple[float, float]]:
    """Returns the appearances of a thing that begin early enough to be told in time before the stream ends."""
    last_s = world.duration_s - 1 - IN_TIME_S
    return [(a.start_s, a.end_s) for a in world.appearances if a.thing.name == name and a.start_s <= last_s]
