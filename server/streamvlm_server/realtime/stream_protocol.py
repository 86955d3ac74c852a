"""The seam between the protocol and the engine: what the protocol needs of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from streamvlm.engine.queued_question import Piece
from streamvlm.engine.source_reader import SourceEvent
from streamvlm.errors import StreamVlmError
from streamvlm.frame import Picture
from streamvlm.gate.gate import Decision
from streamvlm.session.answer import Answer
from streamvlm.session.standing_question import Fired, StandingQuestion
from streamvlm_server.realtime.server_events import StatsEvent

AnswerListener = Callable[[Piece | Answer | StreamVlmError], None]
"""Hears the pieces of an answer, then exactly one end, an answer or an error, and nothing after that."""


class StreamProtocol(Protocol):
    """One live stream. No call waits for the model, and all listeners are called later, on the caller's own thread.

    Attributes:
        id: Of the session.
    """

    id: str

    def offer(self, picture: Picture, *, time_s: float | None, wall_s: float | None, keep: bool) -> float:
        """Takes the next frame and returns its stream time; one that is not to be kept gives way to newer ones.

        Raises:
            UsageError: If ``time_s`` is not after the newest frame's.
        """

    def ask(
        self, question: str, listener: AnswerListener, *, at_s: float | None, out_of_band: bool, max_tokens: int | None
    ) -> Callable[[], None]:
        """Asks about the frames offered so far; returns a function that cancels the question.

        Raises:
            StreamVlmError: If the question is refused.
        """

    def arm(
        self,
        question: StandingQuestion,
        *,
        armed: Callable[[str], None],
        refused: Callable[[StreamVlmError], None],
    ) -> None:
        """Arms a standing question, after those that were given before.

        Args:
            question: What to ask, and when it fires.
            armed: Called with its id, or
            refused: called with the reason.
        """

    def disarm(self, standing_id: str) -> None:
        """Ends a standing question."""

    def standing(self) -> Mapping[str, StandingQuestion]:
        """Returns the armed questions by their ids, those of earlier connections too."""

    def on_fired(self, listener: Callable[[Fired], None] | None, *, after: int | None) -> int:
        """Sets the listener for standing questions that fire; None removes it.

        Args:
            listener: Called first for what fired while there was no listener,
            after: or for what fired after this number.

        Returns:
            The number after which the listener is called.
        """

    def pull(self, url: str, *, fps: float, stream: int | None, listener: Callable[[SourceEvent], None]) -> None:
        """Reads a source and takes its frames, until it ends, is stopped, or fails.

        Args:
            url: Of the source.
            fps: Frames to take from a second.
            stream: Which of its video streams; None for the best.
            listener: Called when the source is open, and at its end.

        Raises:
            StreamVlmError: If the source is refused.
        """

    def stop_pulling(self) -> None:
        """Stops reading the source."""

    def on_decision(self, listener: Callable[[Decision], None] | None) -> None:
        """Sets the listener for the gate's decisions; None removes it."""

    def on_notice(self, listener: Callable[[str], None] | None) -> None:
        """Sets the listener for warnings, one sentence each; it is called first for earlier ones. None removes it."""

    def stats(self) -> StatsEvent:
        """Returns the stream's statistics of now."""
