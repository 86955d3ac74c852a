"""Work in small steps: what sessions want of the model, so that the wants of several can be met in one pass.

A piece of work is a generator that yields what it wants of the model and is sent the result. Between two wants it may
be left waiting, or closed. Its runner decides what runs together: pictures of several streams go through
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
    """A want to have pictures seen; the result is a list of their sights."""

    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A want to have a question's raw queries; the result holds them by layer (see ``StreamDecoder.probe``)."""

    embeddings: Tensor
    context: Context
    layers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """A want to have tokens added to contexts; the result is a list with one ``Read`` for each addition."""

    additions: Sequence[Addition]


Want = Look | Inspection | Reading

Work = Generator[Want, Any, T]
"""Yields wants, is sent their results, and returns a result of its own."""


class Task(Generic[T]):
    """A piece of work under way; begins at once and waits at its first want.

    Attributes:
        want: The want whose result it waits for; None when it has ended.
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
        """Resumes the work with the result that it waited for, or with the error in its place."""
        if isinstance(outcome, Exception):
            self._go_on(lambda: self._work.throw(outcome))
        else:
            self._go_on(lambda: self._work.send(outcome))

    def close(self) -> None:
        """Ends it where it stands, without a result."""
        self.want = None
        self._work.close()

    def result(self) -> T:
        """Returns the result of work that has ended, or raises the error that ended it."""
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
