"""A finished answer, and what it is based on."""

from __future__ import annotations

from dataclasses import dataclass

from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.retrieval.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the question to its answer's first token, to its end, and to its beginning: it may have to wait."""

    ttft_s: float
    total_s: float
    queued_s: float = 0.0


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
        question: The question, as it was asked.
        text: The whole answer.
        asked_at_s: Stream time that the question looks back from: it saw no later frame.
        evidence: Spans of the stream that it is based on, most attended to first.
        retrieved: Ids of the blocks that were fetched for it beside the window, in time order.
        timings: How long it took.
        tokens: How much was read and written.
        memory: What the session held when it was asked.
        model: Name of the model.
        cancelled: Whether it was broken off, so that the text is only its beginning.
        is_cut: Whether it came to the most tokens allowed and would have gone on; one that then ends is whole.
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
    cancelled: bool = False
    is_cut: bool = False
