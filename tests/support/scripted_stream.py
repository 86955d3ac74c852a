"""A stream that answers when a test calls it: for tests of the protocol, without a model or a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamvlm.engine.queued_question import Piece
from streamvlm.engine.source_reader import SourceEvent, SourceState
from streamvlm.errors import StreamVlmError, UsageError
from streamvlm.frame import Fidelity, Picture
from streamvlm.gate.gate import Decision
from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.answer import Answer, Timings, TokenCounts
from streamvlm.session.standing_question import Fired, StandingQuestion
from streamvlm_server.realtime.server_events import StatsEvent
from streamvlm_server.realtime.stream_protocol import AnswerListener

EVIDENCE = Evidence(1.0, 2.0, Fidelity.CLEAR, 0.75, 4)
_MEMORY = MemoryStats(3, 2, 1, 0, 1000, 4000, 0, 0)


def answer(question: str, text: str, *, is_cut: bool = False, cancelled: bool = False) -> Answer:
    """An answer as the engine would give it."""
    return Answer(
        question=question, text=text, asked_at_s=2.0, evidence=(EVIDENCE,), retrieved=(0,),
        timings=Timings(0.01, 0.05), tokens=TokenCounts(5, 3, 100), memory=_MEMORY, model="pocket",
        cancelled=cancelled, is_cut=is_cut,
    )  # fmt: skip


@dataclass
class Asked:
    """A question that was asked of the stream, to be answered by the test."""

    question: str
    listener: AnswerListener
    at_s: float | None
    out_of_band: bool
    max_tokens: int | None
    is_cancelled: bool = False

    def complete(self, *pieces: str, is_cut: bool = False) -> None:
        """Answers in pieces; a cancelled question ends as such."""
        for piece in pieces:
            self.text(piece)
        self.listener(answer(self.question, "".join(pieces), is_cut=is_cut, cancelled=self.is_cancelled))

    def text(self, piece: str) -> None:
        """Answers one piece."""
        self.listener(Piece(piece))

    def fail(self, error: Any) -> None:
        """Ends it with an error."""
        self.listener(error)

    def cancel(self) -> None:
        """Cancels it."""
        self.is_cancelled = True


def has_fired(
    standing_id: str, question: str, time_s: float, probability: float, number: int = 1, n_missed: int = 0
) -> Fired:
    """Returns what a standing question reports."""
    return Fired(standing_id, question, time_s, probability, (EVIDENCE,), number, n_missed)


@dataclass
class ScriptedStream:
    """Records what the protocol does to it."""

    id: str = "sess"
    offered: list[tuple[Picture, float | None, float | None]] = field(default_factory=list)
    n_kept: int = 0
    asked: list[Asked] = field(default_factory=list)
    armed: dict[str, StandingQuestion] = field(default_factory=dict)
    fire: Callable[[Fired], None] | None = None
    fired_after: int | None = None
    pulling: str | None = None
    refusal: StreamVlmError | None = None
    decide: Callable[[Decision], None] | None = None
    notice: Callable[[str], None] | None = None
    on_source: Callable[[SourceEvent], None] = lambda event: None

    def offer(self, picture: Picture, *, time_s: float | None, wall_s: float | None, keep: bool) -> float:
        newest = self.offered[-1][1] if self.offered else None
        if time_s is not None and newest is not None and time_s <= newest:
            raise UsageError("The frame is not after the newest one.")
        self.offered.append((picture, time_s, wall_s))
        self.n_kept += keep
        return float(len(self.offered)) if time_s is None else time_s

    def ask(
        self, question: str, listener: AnswerListener, *, at_s: float | None, out_of_band: bool, max_tokens: int | None
    ) -> Callable[[], None]:
        if self.refusal is not None:
            raise self.refusal
        asked = Asked(question, listener, at_s, out_of_band, max_tokens)
        self.asked.append(asked)
        return asked.cancel

    def arm(
        self,
        question: StandingQuestion,
        *,
        armed: Callable[[str], None],
        refused: Callable[[StreamVlmError], None],
    ) -> None:
        if self.refusal is not None:
            refused(self.refusal)
            return
        standing_id = f"standing_{len(self.armed)}"
        self.armed[standing_id] = question
        armed(standing_id)

    def disarm(self, standing_id: str) -> None:
        del self.armed[standing_id]

    def standing(self) -> dict[str, StandingQuestion]:
        return dict(self.armed)

    def on_fired(self, listener: Callable[[Fired], None] | None, *, after: int | None) -> int:
        self.fire, self.fired_after = listener, after
        return after or 0

    def pull(self, url: str, *, fps: float, stream: int | None, listener: Callable[[SourceEvent], None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.pulling, self.on_source = url, listener

    def opened(self) -> None:
        """The source has been opened."""
        self.on_source(SourceEvent(SourceState.OPENED))

    def ended(self, error: StreamVlmError | None, warning: str | None) -> None:
        """The source has ended."""
        state = SourceState.ENDED if error is None else SourceState.FAILED
        self.on_source(SourceEvent(state, error=error, warning=warning))

    def stop_pulling(self) -> None:
        self.pulling = None
        self.on_source(SourceEvent(SourceState.STOPPED))

    def on_decision(self, listener: Callable[[Decision], None] | None) -> None:
        self.decide = listener

    def on_notice(self, listener: Callable[[str], None] | None) -> None:
        self.notice = listener

    def stats(self) -> StatsEvent:
        return StatsEvent(
            time_s=float(len(self.offered)) or None, lag_s=0.0, wait_s=0.0,
            frames_offered=len(self.offered), frames_dropped=0,
            frames_waiting=0, frames_clear=0, frames_fuzzy=0, frames_discarded=0, blocks=0, host_bytes=0,
            disk_bytes=None, questions=len(self.asked),
        )  # fmt: skip
