"""Accuracy on the synthetic world, through the real pipeline: gate, memory, retrieval, streamed answers.

Every variant watches the same pictures (seen once) and is asked the same questions at the same moments, each out of
band, so that no answer leans on another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamvlm.evaluation.suites.variants import Variant
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.policies.registry import DEFAULT_POLICY
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import World, make_world
from streamvlm.world.questions import Group, WorldQuestion, judge
from streamvlm.world.render import render
from streamvlm.world.video import draw_questions

HELD_OUT_SEED = 1_000_000
"""Worlds from this seed on are for evaluation only; training draws its seeds from elsewhere."""
_DELAYS_S = (5, 30, 120, 300, 600)


class _SharedSight:
    """A model that looks at the newest pictures once, however many sessions show them to it."""

    def __init__(self, model: VideoLanguageModel) -> None:
        self._model = model
        self._seen: tuple[list[Picture], list[Sight]] = ([], [])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        newest, sights = self._seen
        if len(newest) != len(pictures) or any(a is not b for a, b in zip(newest, pictures, strict=True)):
            sights = self._model.see(pictures)
            # The pictures are held as well: freed ones would lend their identity to the next.
            self._seen = list(pictures), sights
        return sights


@dataclass(frozen=True, slots=True)
class Marked:
    """One question, and the answer that a variant gave.

    Attributes:
        variant: Name of the variant that answered.
        question: What was asked.
        answer: What it answered.
        n_blocks: Blocks that the variant remembered when it was asked.
        needs_memory: Whether the moment asked about had left the window: without the right block it is guessing.
            The first variant's window counts, so that all are compared on the same questions.
    """

    variant: str
    question: WorldQuestion
    answer: Answer
    n_blocks: int
    needs_memory: bool

    @property
    def is_right(self) -> bool:
        """Whether the answer is right."""
        return judge(self.question, self.answer.text)

    @property
    def rests_on_the_moment(self) -> bool:
        """Whether a span of the evidence overlaps the true moment, to within a second."""
        start_s, end_s = self.question.start_s, self.question.end_s
        return (
            start_s is not None
            and end_s is not None
            and any(seen.start_s <= end_s + 1 and seen.end_s >= start_s - 1 for seen in self.answer.evidence)
        )


def run_world_suite(
    model: VideoLanguageModel,
    config: SessionConfig,
    *,
    seeds: Sequence[int],
    duration_s: float,
    n_questions: int,
    variants: Sequence[Variant] = (Variant(DEFAULT_POLICY),),
    progress: Callable[[str], None] = lambda line: None,
) -> list[Marked]:
    """Shows one held-out world a seed to every variant at 1 frame/s, and asks each of them ``n_questions``."""
    marked: list[Marked] = []
    for seed in seeds:
        world = make_world(HELD_OUT_SEED + seed, duration_s)
        asked = draw_questions(world, n_questions, np.random.default_rng([seed, 2]))
        with ExitStack() as opened:
            shared = _SharedSight(model)
            sessions = {str(variant): variant.open(shared, config, opened) for variant in variants}
            marked += _watch(sessions, config, world, asked)
        first = str(variants[0])
        right = np.mean([m.is_right for m in marked if m.variant == first])
        progress(f"{len(marked)} answers, {right:.1%} right so far ({first})")
    return marked


def _watch(
    sessions: Mapping[str, Session], config: SessionConfig, world: World, asked: Sequence[WorldQuestion]
) -> list[Marked]:
    pending, marked = list(asked), []
    chunk: list[Frame] = []
    for second in range(int(world.duration_s)):
        frame = Frame(second, float(second), render(world, float(second)))
        chunk.append(frame)
        # A question is asked between two frames and sees the last one before it.
        due = [q for q in pending if q.ask_s < second + 1]
        if due or len(chunk) == config.chunk_frames:
            for session in sessions.values():
                session.observe(chunk)
            chunk = []
        for question in due:
            pending.remove(question)
            window_s = next(iter(sessions.values())).blocks()[-config.window_blocks :][0].start_s
            needs_memory = question.end_s is not None and question.end_s < window_s
            for name, session in sessions.items():
                answer = session.ask(question.text, out_of_band=True).answer
                marked.append(Marked(name, question, answer, len(session.blocks()), needs_memory))
    return marked


def summarise(marked: Sequence[Marked]) -> dict[str, Any]:
    """Returns for each variant its accuracy by group, kind and delay, its hits of evidence, blocks and times."""
    report: dict[str, Any] = {}
    for variant in dict.fromkeys(m.variant for m in marked):
        own = [m for m in marked if m.variant == variant]
        backward = [m for m in own if m.question.group in (Group.EARLIER, Group.WHEN, Group.ORDER)]
        report[variant] = {
            "groups": _shares(own, lambda m: str(m.question.group)),
            "kinds": _shares(own, lambda m: m.question.kind),
            "earlier by delay": _shares(
                [m for m in backward if m.question.group is Group.EARLIER], lambda m: _delay_bin(m.question)
            ),
            "beyond the window": _shares([m for m in backward if m.needs_memory], lambda m: str(m.question.group)),
            "evidence holds the moment": _share([m.rests_on_the_moment for m in backward]),
            "blocks retrieved, mean": float(np.mean([len(m.answer.retrieved) for m in own])),
            "blocks remembered at the question, median": float(np.median([m.n_blocks for m in own])),
            "ttft_s, median": float(np.median([m.answer.timings.ttft_s for m in own])),
        }
    return report


def as_markdown(report: dict[str, Any]) -> str:
    """Returns a report as a model card shows it: a row for each group, kind and delay, a column for each variant."""
    lines = [f"| questions | {' | '.join(report)} |", "|---" * (len(report) + 1) + "|"]
    first = next(iter(report.values()))
    sections = {
        "groups": "",
        "kinds": "of these: ",
        "earlier by delay": "earlier, asked ",
        "beyond the window": "beyond the window: ",
    }
    for section, prefix in sections.items():
        for name, share in first[section].items():
            cells = [f"{100 * told[section][name]['right']:.1f} %" for told in report.values()]
            lines.append(f"| {prefix}{name} ({share['n']}) | {' | '.join(cells)} |")
    name = "evidence holds the moment"
    cells = [f"{100 * told[name]['right']:.1f} %" for told in report.values()]
    lines.append(f"| {name} ({first[name]['n']}) | {' | '.join(cells)} |")
    for name, unit in (
        ("blocks retrieved, mean", ""), ("blocks remembered at the question, median", ""), ("ttft_s, median", " s"),
    ):  # fmt: skip
        lines.append(f"| {name} | {' | '.join(f'{told[name]:.3g}{unit}' for told in report.values())} |")
    return "\n".join(lines)


def _delay_bin(question: WorldQuestion) -> str:
    delay_s = question.delay_s or 0.0
    return f"up to {next((d for d in _DELAYS_S if delay_s <= d), 3600)} s"


def _shares(marked: Sequence[Marked], key: Callable[[Marked], str]) -> dict[str, dict[str, float]]:
    by_key: dict[str, list[bool]] = defaultdict(list)
    for one in marked:
        by_key[key(one)].append(one.is_right)
    return {name: _share(hits) for name, hits in sorted(by_key.items())}


def _share(hits: Sequence[bool]) -> dict[str, float]:
    return {"right": float(np.mean(hits)) if hits else float("nan"), "n": len(hits)}
