"""The streamvlm extension of the protocol: statistics, gate decisions, standing questions, sources and notices.

A client that has not asked for the extension is sent nothing of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from functools import partial

from streamvlm.engine.source_reader import SourceEvent, SourceState
from streamvlm.errors import UsageError
from streamvlm.gate.gate import Decision
from streamvlm.session.standing_question import Fired, StandingQuestion
from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime import client_events, server_events
from streamvlm_server.realtime.event_sink import EventSink
from streamvlm_server.realtime.shapes import SessionExtension, SessionExtensionState, StandingObject
from streamvlm_server.realtime.stream_protocol import StreamProtocol

MAX_DECISIONS = 600
"""Gate decisions that wait for the next tick: at 60 frames/s, ten seconds of them."""


class Extension:
    """One connection's side of the extension.

    Args:
        stream: What is watched and asked.
        sink: Takes the events.
        resume_token: Takes the session up again.

    Attributes:
        settings: What the client has asked for; None before, and when it no longer wants the extension.
        tick_events: Which events each tick sends: ``stats``, ``frame``, both or none.
    """

    def __init__(self, stream: StreamProtocol, sink: EventSink, resume_token: str | None) -> None:
        self.settings: SessionExtension | None = None
        self.tick_events: frozenset[str] = frozenset()
        self._stream, self._sink, self._resume_token = stream, sink, resume_token
        self._decisions: deque[Decision] = deque(maxlen=MAX_DECISIONS)
        self._disarmed: set[str] = set()
        self._fired_after = 0
        self._source: str | None = None

    @property
    def is_waited_for(self) -> bool:
        """Whether the client waits for a source, or for a standing question to fire."""
        return self._source is not None or (self.settings is not None and bool(self._stream.standing()))

    def update(self, settings: SessionExtension | None) -> None:
        """Takes what the client asks for."""
        self.settings = settings
        if settings is None:
            self.close()
            return
        self.tick_events = frozenset(settings.events) & {"stats", "frame"}
        self._stream.on_decision(self._decisions.append if "frame" in settings.events else None)
        self._fired_after = self._stream.on_fired(self._send_fired, after=settings.fired_after)
        self._stream.on_notice(self._send_notice)

    def state(self) -> SessionExtensionState | None:
        """Returns the extension's part of the session; None for a client that has not asked for it."""
        if self.settings is None:
            return None
        return SessionExtensionState(
            events=self.settings.events,
            binary_frames=self.settings.binary_frames,
            fired_after=self._fired_after,
            session_id=self._stream.id,
            resume_token=self._resume_token,
            time_s=self._stream.stats().time_s,
            standing=[
                StandingObject(standing_id=standing_id, **asdict(question))
                for standing_id, question in self._stream.standing().items()
            ],
        )

    def follow(self, event: client_events.ClientEvent) -> None:
        """Follows a client event of the extension.

        Raises:
            StreamVlmError: If it cannot be followed.
        """
        if self.settings is None:
            raise ProtocolError(
                "Events of streamvlm are for sessions that asked for them; send session.streamvlm first."
            )
        match event:
            case client_events.SourceOpen():
                self._open_source(event)
            case client_events.SourceClose():
                self._close_source()
            case client_events.StandingArm():
                self._arm(event)
            case client_events.StandingDisarm():
                self._disarm(event.standing_id)
            case _:
                raise AssertionError(event)

    def tick(self) -> None:
        """Sends statistics, and the gate decisions since the last tick, as far as the client wants them."""
        if "stats" in self.tick_events:
            self._sink.send(self._stream.stats())
        if "frame" in self.tick_events and self._decisions:
            decisions = [server_events.FrameDecision.model_validate(asdict(decision)) for decision in self._decisions]
            self._decisions.clear()
            self._sink.send(server_events.FrameEvent(decisions=decisions))

    def close(self) -> None:
        """Listens to the stream no more; its source and its standing questions go on."""
        self.tick_events = frozenset()
        self._stream.on_decision(None)
        self._stream.on_fired(None, after=None)
        self._stream.on_notice(None)

    def _open_source(self, event: client_events.SourceOpen) -> None:
        if self._source is not None:
            raise UsageError(f"{self._source} is being read already; close it first.")
        listener = partial(self._send_source, event.url)
        self._stream.pull(event.url, fps=event.fps, stream=event.stream, listener=listener)
        self._source = event.url

    def _close_source(self) -> None:
        if self._source is None:
            raise UsageError("No source is being read; there is none to close.")
        self._stream.stop_pulling()

    def _send_source(self, url: str, event: SourceEvent) -> None:
        if event.state is SourceState.OPENED:
            self._sink.send(server_events.SourceOpened(url=url))
            return
        self._source = None
        error = None if event.error is None else str(event.error)
        self._sink.send(server_events.SourceEnded(url=url, error=error, warning=event.warning))

    def _arm(self, event: client_events.StandingArm) -> None:
        if event.release >= event.threshold:
            raise ProtocolError("release is not below threshold; give a lower one.", param="release")
        self._stream.arm(
            StandingQuestion(event.question, event.threshold, event.release, event.every_s, event.cool_down_s),
            armed=lambda standing_id: self._sink.send(
                server_events.StandingArmed(standing_id=standing_id, question=event.question)
            ),
            refused=lambda error: self._sink.send(server_events.ErrorEvent.of(error, event.event_id)),
        )

    def _disarm(self, standing_id: str) -> None:
        if standing_id not in self._stream.standing():
            raise ProtocolError(f"There is no standing question {standing_id}.", param="standing_id")
        self._disarmed.add(standing_id)
        self._stream.disarm(standing_id)
        self._sink.send(server_events.StandingDisarmed(standing_id=standing_id))

    def _send_fired(self, fired: Fired) -> None:
        if fired.standing_id not in self._disarmed:  # it may have been on its way
            self._sink.send(server_events.StandingFired.of(fired, self._stream.id))

    def _send_notice(self, sentence: str) -> None:
        self._sink.send(server_events.NoticeEvent(message=sentence))
