"""Runs the model for all sessions that share it: wants of several sessions are met in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from streamvlm.calibration.calibrate import heads_of, noise_floor_of
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.steps import Inspection, Look, Reading, Task, Work

T = TypeVar("T")


class ModelRunner:
    """Runs one model for all sessions that share it; belongs to one thread.

    Attributes:
        model: What it runs.
        decoder: The model's decoder over contexts.
        heads: The model's retrieval heads.
        noise_floor: Motion of the model's feature that means nothing.
        sinks: Payload (L, 2, K, N, D) of the opening that every context begins with.
    """

    def __init__(self, model: VideoLanguageModel) -> None:
        self.model = model
        self.decoder = StreamDecoder(model.text_model, model.output_head)
        self.heads, self.noise_floor = heads_of(model), noise_floor_of(model)
        opening = model.opening_tokens()
        _, self.sinks = self.decoder.prefill(opening, self.decoder.new_context(len(opening)))

    def advance(self, tasks: Iterable[Task[Any]]) -> None:
        """Meets one want of every task, wants of the same kind together."""
        waiting = [(task, task.want) for task in tasks if task.want is not None]
        _meet([(task, want) for task, want in waiting if isinstance(want, Look)], self._look)
        _meet([(task, want) for task, want in waiting if isinstance(want, Reading)], self._read)
        for task, want in waiting:
            if isinstance(want, Inspection):
                _meet([(task, want)], self._inspect)

    def run(self, work: Work[T]) -> T:
        """Runs a piece of work alone, to its end, and returns its result."""
        task = Task(work)
        while not task.has_ended:
            self.advance([task])
        return task.result()

    def _look(self, looks: Sequence[Look]) -> list[object]:
        sights = iter(self.model.see([picture for look in looks for picture in look.pictures]))
        return [[next(sights) for _ in look.pictures] for look in looks]

    def _read(self, readings: Sequence[Reading]) -> list[object]:
        reads = iter(self.decoder.extend([addition for reading in readings for addition in reading.additions]))
        return [[next(reads) for _ in reading.additions] for reading in readings]

    def _inspect(self, wants: Sequence[Inspection]) -> list[object]:
        return [self.decoder.probe(want.embeddings, want.context, want.layers) for want in wants]


W = TypeVar("W")


def _meet(wanted: Sequence[tuple[Task[Any], W]], meet: Callable[[Sequence[W]], Sequence[object]]) -> None:
    """Meets the wants of several tasks in one pass; if that fails, each alone, so that only the faulty one fails."""
    if not wanted:
        return
    outcomes: Sequence[object]
    try:
        outcomes = meet([want for _, want in wanted])
    except Exception as error:
        outcomes = [error] if len(wanted) == 1 else [_try(meet, want) for _, want in wanted]
    for (task, _), outcome in zip(wanted, outcomes, strict=True):
        task.send(outcome)


def _try(meet: Callable[[Sequence[W]], Sequence[object]], want: W) -> object:
    try:
        (outcome,) = meet([want])
    except Exception as error:
        return error
    return outcome
