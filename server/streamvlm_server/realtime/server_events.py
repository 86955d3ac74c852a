"""What the server sends: events of the OpenAI Realtime API (GA), and ours for clients that asked for them."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Literal, Self

from pydantic import Field

from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.standing_question import Fired
from streamvlm_server.errors import ProtocolError, error_object
from streamvlm_server.realtime.shapes import ErrorBody, Item, Response, SessionObject, Shape, TimeS


def new_id(kind: str) -> str:
    """A fresh id such as ``event_…``."""
    return f"{kind}_{secrets.token_hex(10)}"


class ServerEvent(Shape):
    """What every server event carries."""

    event_id: str = Field(default_factory=lambda: new_id("event"))


class SessionCreated(ServerEvent):
    """Comes first, unasked."""

    type: Literal["session.created"] = "session.created"
    session: SessionObject


class SessionUpdated(ServerEvent):
    """The whole configuration after a change."""

    type: Literal["session.updated"] = "session.updated"
    session: SessionObject


class ItemAdded(ServerEvent):
    """An item has joined the conversation."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None
    item: Item


class ItemDone(ServerEvent):
    """An item is complete."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None
    item: Item


class ItemRetrieved(ServerEvent):
    """The item asked for."""

    type: Literal["conversation.item.retrieved"] = "conversation.item.retrieved"
    item: Item


class ItemDeleted(ServerEvent):
    """An item has left the conversation."""

    type: Literal["conversation.item.deleted"] = "conversation.item.deleted"
    item_id: str


class ResponseCreated(ServerEvent):
    """A response is under way."""

    type: Literal["response.created"] = "response.created"
    response: Response


class OutputItemAdded(ServerEvent):
    """The response's message begins."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    response_id: str
    output_index: int = 0
    item: Item


class OutputItemDone(ServerEvent):
    """The response's message is whole."""

    type: Literal["response.output_item.done"] = "response.output_item.done"
    response_id: str
    output_index: int = 0
    item: Item


class OutputPart(Shape):
    """The part of a message that a response writes."""

    type: Literal["text"] = "text"
    text: str


class _InPart(ServerEvent):
    response_id: str
    item_id: str
    output_index: int = 0
    content_index: int = 0


class ContentPartAdded(_InPart):
    """The message's text begins."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: OutputPart


class TextDelta(_InPart):
    """The next piece of text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(_InPart):
    """The whole text."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class ContentPartDone(_InPart):
    """The message's text is whole."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: OutputPart


class ResponseDone(ServerEvent):
    """A response has ended, one way or another."""

    type: Literal["response.done"] = "response.done"
    response: Response


class ErrorEvent(ServerEvent):
    """Something the client sent was not followed; the session goes on."""

    type: Literal["error"] = "error"
    error: ErrorBody

    @classmethod
    def of(cls, error: BaseException, event_id: str | None = None, *, param: str | None = None) -> Self:
        """Makes the event of an error.

        Args:
            error: What went wrong.
            event_id: Id of the client event that was not followed, where the error does not name it.
            param: The field or frame at fault, where the error does not name it.
        """
        told = error_object(error)
        told["param"] = told["param"] or param
        if isinstance(error, ProtocolError):
            told["code"], event_id = error.code, error.event_id or event_id
        return cls(error=ErrorBody.model_validate({**told, "event_id": event_id}))


# --- ours ---


class Seen(Shape):
    """A span of the stream that an answer rests on."""

    start_s: float
    end_s: float
    fidelity: Literal["clear", "fuzzy"]
    score: float = Field(description="Share of the attention that all blocks got.")

    block_id: int | None = Field(description="None for the frame at question time, which is in no block.")
    thumbnail: str | None = Field(description="Path of its picture on this server, where that keeps a disk.")

    @classmethod
    def of(cls, evidence: Evidence, session_id: str) -> Self:
        """From the engine's own."""
        block_id = evidence.block_id
        return cls.model_validate(
            {
                **asdict(evidence),
                "fidelity": str(evidence.fidelity),
                "thumbnail": None if block_id is None else f"/v1/sessions/{session_id}/thumbnails/{block_id}",
            }
        )


class EvidenceEvent(ServerEvent):
    """What an answer rests on; comes just before its ``response.done``."""

    type: Literal["streamvlm.response.evidence"] = "streamvlm.response.evidence"
    response_id: str
    asked_at_s: float = Field(description="Stream time that the answer looks back from.")
    evidence: list[Seen]
    ttft_s: float
    total_s: float


class FrameDecision(Shape):
    """What the gate made of one frame."""

    time_s: float
    fidelity: Literal["clear", "fuzzy", "discarded"]
    reason: str
    score: float
    motion: float
    curvature: float
    fuzzy_threshold: float
    clear_threshold: float


class FrameEvent(ServerEvent):
    """Gate decisions as they fell, oldest first."""

    type: Literal["streamvlm.frame"] = "streamvlm.frame"
    decisions: list[FrameDecision]


class StatsEvent(ServerEvent):
    """How the stream is doing, once a second; a client that hears nothing for long has lost the server."""

    type: Literal["streamvlm.stats"] = "streamvlm.stats"
    time_s: float | None = Field(description="Stream time of the newest frame taken in.")
    lag_s: float = Field(description="Stream time between the newest frame offered and the newest taken in.")
    wait_s: float = Field(description="Seconds from offering the newest frame taken in to its being remembered.")
    frames_offered: int
    frames_dropped: int = Field(description="Overwritten by newer ones before they were taken in.")
    frames_waiting: int
    frames_clear: int
    frames_fuzzy: int
    frames_discarded: int
    blocks: int
    host_bytes: int
    disk_bytes: int | None
    questions: int = Field(description="Waiting or under way.")


class SourceOpened(ServerEvent):
    """The server has begun to read a source."""

    type: Literal["streamvlm.source.opened"] = "streamvlm.source.opened"
    url: str


class SourceEnded(ServerEvent):
    """A source has come to its end, was closed, or failed."""

    type: Literal["streamvlm.source.ended"] = "streamvlm.source.ended"
    url: str
    error: str | None = Field(description="Why it failed; None if it did not.")
    warning: str | None = Field(description="What is missing of a source that ended early; None if nothing is.")


class StandingArmed(ServerEvent):
    """A standing question is being asked from now on, until it is disarmed: it belongs to the session."""

    type: Literal["streamvlm.standing.armed"] = "streamvlm.standing.armed"
    standing_id: str
    question: str


class StandingDisarmed(ServerEvent):
    """A standing question is asked no more."""

    type: Literal["streamvlm.standing.disarmed"] = "streamvlm.standing.disarmed"
    standing_id: str


class StandingFired(ServerEvent):
    """The answer to a standing question has become yes, now or while nobody was connected."""

    type: Literal["streamvlm.standing.fired"] = "streamvlm.standing.fired"
    standing_id: str
    question: str
    time_s: float
    probability: float
    evidence: list[Seen]
    number: int = Field(description="Counts the session's, from 1; send the last as fired_after when you come back.")
    missed: int = Field(description="How many before it were not kept for you, as they were too many.")

    @classmethod
    def of(cls, fired: Fired, session_id: str) -> Self:
        """Makes the event of a standing question of a session that fired."""
        return cls(
            standing_id=fired.standing_id,
            question=fired.question,
            time_s=fired.time_s,
            probability=fired.probability,
            evidence=[Seen.of(evidence, session_id) for evidence in fired.evidence],
            number=fired.number,
            missed=fired.n_missed,
        )


class NoticeEvent(ServerEvent):
    """Something that should not go unnoticed, and hinders nothing: a disk that is full, a block that is damaged."""

    type: Literal["streamvlm.notice"] = "streamvlm.notice"
    message: str


class GoingAway(ServerEvent):
    """The server will close this connection; connect again with the session's id."""

    type: Literal["streamvlm.going_away"] = "streamvlm.going_away"
    reason: str
    time_left_s: TimeS


SERVER_EVENTS: tuple[type[ServerEvent], ...] = (
    SessionCreated, SessionUpdated, ItemAdded, ItemDone, ItemRetrieved, ItemDeleted, ResponseCreated, OutputItemAdded,
    ContentPartAdded, TextDelta, TextDone, ContentPartDone, OutputItemDone, ResponseDone, ErrorEvent, EvidenceEvent,
    FrameEvent, StatsEvent, SourceOpened, SourceEnded, StandingArmed, StandingDisarmed, StandingFired,
    NoticeEvent, GoingAway,
)  # fmt: skip
"""Every server event."""
