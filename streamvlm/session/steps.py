"""Work in small steps: what sessions want of the model, and how the wants of several are met at once.

A piece of work is a generator that yields what it wants of the model and is sent what came of it. Between two wants
it may be left waiting, or closed. Whoever runs it decides what runs together: pictures of several streams go through
one vision call, tokens of several contexts, a chunk of frames or the next word of an answer, through one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from streamvlm.decoding.context import Context
from streamvlm.decoding.decoder import Addition
from streamvlm.frame import Picture

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
