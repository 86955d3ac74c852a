"""Work in small steps: what sessions want of the model, and how the wants of several are met at once.

A piece of work is a generator that yields what it wants of the model and is sent what came of it. Between two wants
it may be left waiting, or closed. Whoever runs it decides what runs together: pictures of several streams go through
one vision call, tokens of several contexts, a chunk of frames or the next word of an answer, through one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from streamvlm.decoding.context import Context
from streamvlm.decoding.decoder import Addition, StreamDecoder
from streamvlm.engine.calibration import heads_of, noise_floor_of
from streamvlm.frame import Picture
from streamvlm.models.base import VideoLanguageModel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """Wants pictures seen: is sent a list of their sights."""

    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Wants a question's raw queries: is sent them by layer (see ``StreamDecoder.probe``)."""

    embeddings: Tensor
    context: Context
    layers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """Wants tokens added to contexts: is sent a list of what each addition read."""

    additions: Sequence[Addition]


Want = Look | Inspection | Reading

Work = Generator[Want, Any, T]
"""Yields what it wants, is sent what came of it, and returns its result."""


class Task(Generic[T]):
    """A piece of work under way; begins at once and waits at its first want.

    Attributes:
        want: What it waits for; None when it has ended.
    """

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: Exception | None = None
        self.want: Want | None = None
        self._go_on(lambda: next(work))

    @property
    def has_ended(self) -> bool:
        """Whether there is a result, or the error that stands in its place."""
        return self.want is None

    def send(self, outcome: object) -> None:
        """Gives it what it waited for: what came of it, or the error that came of it."""
        if isinstance(outcome, Exception):
            self._go_on(lambda: self._work.throw(outcome))
        else:
            self._go_on(lambda: self._work.send(outcome))

    def close(self) -> None:
        """Ends it where it stands, without a result."""
        self.want = None
        self._work.close()

    def result(self) -> T:
        """The result of work that has ended; raises the error that ended it instead."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # T itself may be None

    def _go_on(self, resume: Callable[[], Want]) -> None:
        try:
            self.want = resume()
        except StopIteration as end:
            self.want, self._result = None, end.value
        except Exception as error:
            self.want, self._error = None, error


class Runner:
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
        """Takes every task one want further, those that want the same kind of thing together."""
        waiting = [(task, task.want) for task in tasks if task.want is not None]
        _meet([(task, want) for task, want in waiting if isinstance(want, Look)], self._look)
        _meet([(task, want) for task, want in waiting if isinstance(want, Reading)], self._read)
        for task, want in waiting:
            if isinstance(want, Inspection):
                _meet([(task, want)], self._inspect)

    def run(self, work: Work[T]) -> T:
        """Does a piece of work alone, to its end."""
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
    """Meets the wants of several tasks in one go; should that fail, each alone, so that only what is at fault fails."""
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
