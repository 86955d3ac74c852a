"""What the protocol needs of a stream: the seam between it and the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from streamvlm.errors import StreamVlmError
from streamvlm.frame import Picture
from streamvlm.gate.gate import Decision
from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.answer import Answer
from streamvlm.session.standing_question import StandingQuestion
from streamvlm_server.realtime.client_events import StandingArm
from streamvlm_server.realtime.server_events import StatsEvent


class AnswerSink(Protocol):
    """Hears one answer: pieces of its text as they come, then exactly one of its ends, and nothing after that."""

    def text(self, piece: str) -> None:
        """The next piece."""

    def done(self, answer: Answer) -> None:
        """It has ended, whole or cancelled."""

    def failed(self, error: Exception) -> None:
        """It has come to nothing."""


class Fired(Protocol):
    """What a standing question tells when its answer turns to yes."""

    @property
    def standing_id(self) -> str:
        """Which one."""

    @property
    def question(self) -> str:
        """What it asks."""

    @property
    def time_s(self) -> float:
        """Stream time."""

    @property
    def probability(self) -> float:
        """How likely yes is, in [0, 1]."""

    @property
    def evidence(self) -> Sequence[Evidence]:
        """What it rests on."""

    @property
    def number(self) -> int:
        """Counts the session's firings, from 1."""

    @property
    def n_missed(self) -> int:
        """How many before it were not kept."""


class StreamProtocol(Protocol):
    """One live stream. Nothing here waits for the model, and all callbacks come later, on the caller's own thread.

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
        self, question: str, reply: AnswerSink, *, at_s: float | None, out_of_band: bool, max_tokens: int | None
    ) -> Callable[[], None]:
        """Asks about what has been offered so far; returns what cancels it.

        Raises:
            StreamVlmError: If the question is refused.
        """

    def arm(
        self,
        settings: StandingArm,
        *,
        armed: Callable[[str], None],
        refused: Callable[[StreamVlmError], None],
    ) -> None:
        """Asks a standing question, until it is disarmed.

        Args:
            settings: What to ask, and when it fires.
            armed: Told its id, or
            refused: told why not; one after another, in the order in which questions were given.
        """

    def disarm(self, standing_id: str) -> None:
        """Asks it no more."""

    def standing(self) -> Mapping[str, StandingQuestion]:
        """What is armed now, by this connection or an earlier one."""

    def on_fired(self, listener: Callable[[Fired], None] | None, *, after: int | None) -> int:
        """Tells each time a standing question fires; None ends it. Returns the number after which telling begins.

        Args:
            listener: Told first what nobody was told of,
            after: or what came after this number.
        """

    def pull(
        self,
        url: str,
        *,
        fps: float,
        stream: int | None,
        opened: Callable[[], None],
        ended: Callable[[StreamVlmError | None, str | None], None],
    ) -> None:
        """Reads a source and takes its frames, until it ends, is stopped, or fails, which is then told.

        Args:
            url: Of the source.
            fps: Frames to take from a second.
            stream: Which of its video streams; None for the best.
            opened: Told when it is open.
            ended: Told why it failed, if it did, and what else there is to say of its end.

        Raises:
            StreamVlmError: If the source is refused.
        """

    def stop_pulling(self) -> None:
        """Stops reading."""

    def watch_decisions(self, listener: Callable[[Decision], None] | None) -> None:
        """Tells of the gate's decisions as they fall; None ends it."""

    def on_notice(self, listener: Callable[[str], None] | None) -> None:
        """Tells in sentences what should not go unnoticed, first what nobody was told of; None ends it."""

    def stats(self) -> StatsEvent:
        """How the stream is doing."""
