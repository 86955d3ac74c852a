"""An answer, while its tokens come and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.retrieval.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the question to its answer's first token, and to its end."""

    ttft_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of the question, of the answer, and of what they attended to besides each other."""

    question: int
    answer: int
    context: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer.

    Attributes:
        question: As it was asked.
        text: The whole answer.
        asked_at_s: Stream time that the question looks back from: it saw no later frame.
        evidence: Spans of the stream that it rests on, most attended to first.
        retrieved: Ids of the blocks that were fetched for it beside the window, in time order.
        timings: How long it took.
        tokens: How much was read and written.
        memory: What the session held when it was asked.
        model: Name of the model.
    """

    question: str
    text: str
    asked_at_s: float
    evidence: tuple[Evidence, ...]
    retrieved: tuple[int, ...]
    timings: Timings
    tokens: TokenCounts
    memory: MemoryStats
    model: str


class Answering(Iterator[str]):
    """An answer under way: iterate it for pieces of text as they come; then ``answer`` holds the whole.

    What it sees was fixed when the question was asked; frames observed meanwhile change nothing.
    """

    def __init__(
        self,
        tokens: Iterator[int],
        to_text: Callable[[list[int]], str],
        finish: Callable[[str, int, Timings], Answer],
        began_s: float,
    ) -> None:
        """Streams ``tokens``; ``finish`` is called once, with the text, the token count and the timings."""
        self._pieces = self._stream(tokens, to_text, finish, began_s)
        self._answer: Answer | None = None

    def __next__(self) -> str:
        """Return the next piece of text."""
        return next(self._pieces)

    @property
    def answer(self) -> Answer:
        """The finished answer; what has not been streamed yet is decoded first."""
        for _ in self:
            pass
        assert self._answer is not None, "an answer whose decoding failed has no text"
        return self._answer

    def _stream(
        self,
        tokens: Iterator[int],
        to_text: Callable[[list[int]], str],
        finish: Callable[[str, int, Timings], Answer],
        began_s: float,
    ) -> Iterator[str]:
        ids: list[int] = []
        text, ttft_s = "", 0.0
        for token in tokens:
            ids.append(token)
            ttft_s = ttft_s or time.perf_counter() - began_s
            grown = to_text(ids)
            if grown != text:
                yield grown[len(text) :]
            text = grown
        total_s = time.perf_counter() - began_s
        self._answer = finish(text, len(ids), Timings(ttft_s or total_s, total_s))
