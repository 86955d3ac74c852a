"""A live session of the engine as the protocol needs it: listeners are called on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.queued_question import Piece
from streamvlm.engine.source_reader import SourceEvent
from streamvlm.errors import StreamVlmError
from streamvlm.gate.gate import Decision
from streamvlm.ingest.web.http_client import Admit
from streamvlm.session.answer import Answer
from streamvlm.session.standing_question import Fired, StandingQuestion
from streamvlm_server.access.limits import Meter
from streamvlm_server.error_codes import wire
from streamvlm_server.monitoring.metrics import Metrics
from streamvlm_server.queue_space import queue_space
from streamvlm_server.realtime.server_events import StatsEvent
from streamvlm_server.realtime.stream_protocol import AnswerListener


class EngineStream:
    """Brings what the engine's threads tell to the event loop, and holds a client to the limits of its key.

    Args:
        session: Of the engine.
        meter: Counts questions.
        metrics: Counts answers.
        admit: Checks every URL that a source on the web leads to.
        max_kept_bytes: How much of a source may be brought to disk.

    Attributes:
        id: Of the session.
        n_lost: Frames that never reached the session: they came too late, or were more than the key allows.
    """

    def __init__(
        self, session: LiveSession, meter: Meter, metrics: Metrics, *, admit: Admit, max_kept_bytes: int
    ) -> None:
        self.id, self.n_lost = session.id, 0
        self.offer, self.standing = session.offer, session.standing  # calls without a listener are the session's own
        self.disarm, self.stop_pulling = session.disarm, session.stop_pulling
        self._session, self._meter, self._metrics = session, meter, metrics
        self._admit, self._max_kept_bytes = admit, max_kept_bytes
        self._loop = asyncio.get_running_loop()
        self._arming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_behind(self) -> bool:
        """Whether one more frame would push another out of the queue."""
        return self._session.is_behind

    async def space(self) -> None:
        """Returns when frames that are to be kept may be offered."""
        await queue_space(self._session)

    def ask(
        self, question: str, listener: AnswerListener, *, at_s: float | None, out_of_band: bool, max_tokens: int | None
    ) -> Callable[[], None]:
        """Asks, if the key allows one more question; see ``LiveSession.ask``."""
        self._meter.question()
        hear = partial(self._on_loop, partial(self._hear, listener))
        return self._session.ask(question, hear, at_s=at_s, out_of_band=out_of_band, max_tokens=max_tokens).cancel

    def arm(
        self,
        question: StandingQuestion,
        *,
        armed: Callable[[str], None],
        refused: Callable[[StreamVlmError], None],
    ) -> None:
        """Arms a standing question on a thread, as ``LiveSession.arm`` may wait for a step."""

        async def arm() -> None:
            async with self._arming:
                try:
                    standing_id = await asyncio.to_thread(self._session.arm, question)
                except StreamVlmError as error:
                    refused(error)
                else:
                    armed(standing_id)

        task = self._loop.create_task(arm())
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)

    def on_fired(self, listener: Callable[[Fired], None] | None, *, after: int | None) -> int:
        """Sets the listener for standing questions that fire; see ``LiveSession.on_fired``."""
        return self._session.on_fired(None if listener is None else partial(self._on_loop, listener), after=after)

    def pull(self, url: str, *, fps: float, stream: int | None, listener: Callable[[SourceEvent], None]) -> None:
        """Reads a source; see ``LiveSession.pull``."""
        self._session.pull(
            url,
            fps=fps,
            stream=stream,
            listener=partial(self._on_loop, listener),
            admit=self._admit,
            max_kept_bytes=self._max_kept_bytes,
        )

    def on_decision(self, listener: Callable[[Decision], None] | None) -> None:
        """Sets the listener for the gate's decisions."""
        self._session.on_decision(None if listener is None else partial(self._on_loop, listener))

    def on_notice(self, listener: Callable[[str], None] | None) -> None:
        """Sets the listener for warnings; see ``LiveSession.on_notice``."""
        self._session.on_notice(None if listener is None else partial(self._on_loop, listener))

    def stats(self) -> StatsEvent:
        """Returns the statistics of now, which count the lost frames too."""
        now = self._session.stats()
        return StatsEvent(
            time_s=now.time_s,
            lag_s=now.lag_s,
            wait_s=now.wait_s,
            frames_offered=now.n_offered + self.n_lost,
            frames_dropped=now.n_dropped + self.n_lost,
            frames_waiting=now.n_waiting,
            frames_clear=now.n_clear,
            frames_fuzzy=now.n_fuzzy,
            frames_discarded=now.n_discarded,
            blocks=now.memory.n_blocks,
            host_bytes=now.memory.host_bytes,
            disk_bytes=None if now.memory.disk is None else now.memory.disk.file_bytes,
            questions=now.n_questions,
        )

    def _hear(self, listener: AnswerListener, event: Piece | Answer | StreamVlmError) -> None:
        match event:
            case Answer():
                self._metrics.answered(event, "abort" if event.cancelled else "length" if event.is_cut else "stop")
            case StreamVlmError():
                self._metrics.refused(wire(event).code)
        listener(event)

    def _on_loop(self, listener: Callable[..., None], *events: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every listener
            self._loop.call_soon_threadsafe(listener, *events)
