"""Accuracy on the synthetic world, through the real pipeline: gate, memory, retrieval, streamed answers.

Every variant of retrieval watches the same pictures (seen once) and is asked the same questions at the same moments,
each out of band, so that no answer leans on another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamvlm.archive.archive import Archive, ArchiveConfig
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity, Frame, Picture
from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk.codec import Codec
from streamvlm.memory.host_arena import whole_pages
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.retrieval.mean_key import MeanKeyScorer
from streamvlm.retrieval.scorer import Ids
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


class RandomScorer:
    """Scores blocks by lot: what retrieval is worth is what is lost with it."""

    layers: Sequence[int] = (0,)
    n_bytes = 0

    def __init__(self, seed: int) -> None:
        """Draws from ``seed``."""
        self._rng = np.random.default_rng(seed)

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Needs no index."""

    def forget(self, ids: Iterable[int]) -> None:
        """Needs no index."""

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Uniform random numbers."""
        return torch.from_numpy(self._rng.uniform(0.5, 1.0, len(ids))).float()


class _SharedSight:
    """A model whose vision tower looks at the newest pictures once, however many sessions show them to it."""

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
    """One question with what a variant made of it.

    Attributes:
        variant: Which retrieval answered.
        question: What was asked.
        answer: What it answered.
        n_blocks: Blocks remembered when it was asked.
        needs_memory: Whether the moment asked about had left the window: without the right block it is guessing.
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


def variants(
    model: VideoLanguageModel, config: SessionConfig, names: Sequence[str], opened: ExitStack
) -> dict[str, Session]:
    """Sessions that differ in retrieval alone, or in what a block has been through since it was seen.

    ``heads``, ``mean-key``, ``random`` and ``everything`` retrieve differently; ``raw``, ``int8`` and ``int4`` retrieve
    as ``heads`` does, but keep blocks on disk in that codec and next to none of them in RAM.

    Raises:
        UsageError: If there is no such variant.
    """

    def on_disk(codec: Codec) -> Session:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="streamvlm-eval-")))
        archive = Archive(folder, model, ArchiveConfig(codec), on_event=lambda text: None)
        opened.enter_context(closing(archive))
        return Session(model, replace(config, host_budget_bytes=_small_host_bytes(model, config)), archive=archive)

    made: dict[str, Callable[[], Session]] = {
        "heads": lambda: Session(model, config),
        "mean-key": lambda: Session(
            model, config, scorer=MeanKeyScorer(model.text_model.config.num_attention_heads, model.layout)
        ),
        "random": lambda: Session(model, config, scorer=RandomScorer(0)),
        "everything": lambda: Session(model, replace(config, top_k=1_000_000, coverage=1.0)),
        **{str(codec): partial(on_disk, codec) for codec in Codec},
    }
    if unknown := set(names) - set(made):
        raise UsageError(f"There is no variant {', '.join(sorted(unknown))}; choose from {', '.join(made)}.")
    return {name: made[name]() for name in names}


def _small_host_bytes(model: VideoLanguageModel, config: SessionConfig) -> int:
    """RAM for the window and what a question or two may fetch."""
    (sight,) = model.see([np.zeros((240, 320, 3), np.uint8)])
    n_tokens = len(model.frame_tokens(sight, 0.0, Fidelity.CLEAR))
    return (config.window_blocks + 2 * config.top_k) * whole_pages(n_tokens * model.layout.token_bytes)


def run_world_suite(
    model: VideoLanguageModel,
    config: SessionConfig,
    *,
    seeds: Sequence[int],
    duration_s: float,
    n_questions: int,
    names: Sequence[str] = ("heads",),
    progress: Callable[[str], None] = lambda line: None,
) -> list[Marked]:
    """Watches one held-out world a seed at 1 frame/s and asks ``n_questions`` of each."""
    marked: list[Marked] = []
    for seed in seeds:
        world = make_world(HELD_OUT_SEED + seed, duration_s)
        asked = draw_questions(world, n_questions, np.random.default_rng([seed, 2]))
        with ExitStack() as opened:
            sessions = variants(_SharedSight(model), config, names, opened)
            marked += _watch(sessions, config, world, asked)
        right = np.mean([m.is_right for m in marked if m.variant == names[0]])
        progress(f"{len(marked)} answers, {right:.1%} right so far ({names[0]})")
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
            blocks = next(iter(sessions.values())).blocks()
            window_s = blocks[-config.window_blocks :][0].start_s
            needs_memory = question.end_s is not None and question.end_s < window_s
            for name, session in sessions.items():
                answer = session.ask(question.text, out_of_band=True).answer
                marked.append(Marked(name, question, answer, len(blocks), needs_memory))
    return marked


def summarise(marked: Sequence[Marked]) -> dict[str, Any]:
    """Accuracy by variant and group, by delay, evidence hits, and the blocks and frames behind them."""
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
    """The table of a report that a model card shows: a row a group, kind or delay, a column a variant."""
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
