"""The events that the server sends: those of the OpenAI Realtime API (GA), and those of the streamvlm extension."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import Literal, Self

from pydantic import Field

from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.standing_question import Fired
from streamvlm_server.error_codes import error_object
from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.shapes import ErrorBody, Item, Response, SessionObject, Shape, TimeS


def new_id(kind: str) -> str:
    """Returns a fresh id such as ``event_…``."""
    return f"{kind}_{secrets.token_hex(10)}"


class ServerEvent(Shape):
    """The fields of every server event."""

    event_id: str = Field(default_factory=lambda: new_id("event"))


class SessionCreated(ServerEvent):
    """The first event of every connection."""

    type: Literal["session.created"] = "session.created"
    session: SessionObject


class SessionUpdated(ServerEvent):
    """The whole configuration of the session, after a change."""

    type: Literal["session.updated"] = "session.updated"
    session: SessionObject


class ItemAdded(ServerEvent):
    """An item was added to the conversation."""

    type: Literal["conversation.item.added"] = "conversation.item.added"
    previous_item_id: str | None
    item: Item


class ItemDone(ServerEvent):
    """An item is complete."""

    type: Literal["conversation.item.done"] = "conversation.item.done"
    previous_item_id: str | None
    item: Item


class ItemRetrieved(ServerEvent):
    """The item that was asked for."""

    type: Literal["conversation.item.retrieved"] = "conversation.item.retrieved"
    item: Item


class ItemDeleted(ServerEvent):
    """An item was deleted from the conversation."""

    type: Literal["conversation.item.deleted"] = "conversation.item.deleted"
    item_id: str


class ResponseCreated(ServerEvent):
    """A response is under way."""

    type: Literal["response.created"] = "response.created"
    response: Response


class OutputItemAdded(ServerEvent):
    """The message of a response begins."""

    type: Literal["response.output_item.added"] = "response.output_item.added"
    response_id: str
    output_index: int = 0
    item: Item


class OutputItemDone(ServerEvent):
    """The message of a response is complete."""

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
    """The text of a message begins."""

    type: Literal["response.content_part.added"] = "response.content_part.added"
    part: OutputPart


class TextDelta(_InPart):
    """The next piece of text."""

    type: Literal["response.output_text.delta"] = "response.output_text.delta"
    delta: str


class TextDone(_InPart):
    """The whole text of a message."""

    type: Literal["response.output_text.done"] = "response.output_text.done"
    text: str


class ContentPartDone(_InPart):
    """The text of a message is complete."""

    type: Literal["response.content_part.done"] = "response.content_part.done"
    part: OutputPart


class ResponseDone(ServerEvent):
    """A response has ended: completed, incomplete, cancelled or failed."""

    type: Literal["response.done"] = "response.done"
    response: Response


class ErrorEvent(ServerEvent):
    """An event of the client was not followed; the session goes on."""

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
        body = error_object(error)
        body["param"] = body["param"] or param
        if isinstance(error, ProtocolError):
            body["code"], event_id = error.code, error.event_id or event_id
        return cls(error=ErrorBody.model_validate({**body, "event_id": event_id}))


# --- the streamvlm extension ---


class Seen(Shape):
    """A span of the stream that an answer or an alert rests on."""

    start_s: float
    end_s: float
    fidelity: Literal["clear", "fuzzy"]
    score: float = Field(description="Share of the attention to all blocks.")

    block_id: int | None = Field(description="None for the frame at question time, which is in no block.")
    thumbnail: str | None = Field(description="Path of its picture on this server, where it keeps sessions on disk.")

    @classmethod
    def of(cls, evidence: Evidence, session_id: str) -> Self:
        """Converts the engine's evidence."""
        block_id = evidence.block_id
        return cls.model_validate(
            {
                **asdict(evidence),
                "fidelity": str(evidence.fidelity),
                "thumbnail": None if block_id is None else f"/v1/sessions/{session_id}/thumbnails/{block_id}",
            }
        )


class EvidenceEvent(ServerEvent):
    """The spans that an answer rests on; comes just before its ``response.done``."""

    type: Literal["streamvlm.response.evidence"] = "streamvlm.response.evidence"
    response_id: str
    asked_at_s: float = Field(description="Stream time as of which it answers.")
    evidence: list[Seen]
    ttft_s: float
    total_s: float


class FrameDecision(Shape):
    """The gate's decision about one frame."""

    time_s: float
    fidelity: Literal["clear", "fuzzy", "discarded"]
    reason: str
    score: float
    motion: float
    curvature: float
    fuzzy_threshold: float
    clear_threshold: float


class FrameEvent(ServerEvent):
    """Gate decisions, the oldest first."""

    type: Literal["streamvlm.frame"] = "streamvlm.frame"
    decisions: list[FrameDecision]


class StatsEvent(ServerEvent):
    """Statistics of the stream, once a second; if they stay away for long, the connection is lost."""

    type: Literal["streamvlm.stats"] = "streamvlm.stats"
    time_s: float | None = Field(description="Stream time of the newest frame taken in.")
    lag_s: float = Field(description="Stream time between the newest frame offered and the newest taken in.")
    wait_s: float = Field(description="Seconds from offering the newest frame taken in until it was remembered.")
    frames_offered: int
    frames_dropped: int = Field(description="Overwritten by newer ones before they were taken in.")
    frames_waiting: int
    frames_clear: int
    frames_fuzzy: int
    frames_discarded: int
    blocks: int
    host_bytes: int
    disk_bytes: int | None
    questions: int = Field(description="Questions that wait or are being answered.")


class SourceOpened(ServerEvent):
    """The server has opened a source."""

    type: Literal["streamvlm.source.opened"] = "streamvlm.source.opened"
    url: str


class SourceEnded(ServerEvent):
    """A source has ended, was closed, or has failed."""

    type: Literal["streamvlm.source.ended"] = "streamvlm.source.ended"
    url: str
    error: str | None = Field(description="The reason why it failed; None if it did not.")
    warning: str | None = Field(description="What is missing of a source that ended early; None if it is whole.")


class StandingArmed(ServerEvent):
    """A standing question is armed, until it is disarmed; it belongs to the session."""

    type: Literal["streamvlm.standing.armed"] = "streamvlm.standing.armed"
    standing_id: str
    question: str


class StandingDisarmed(ServerEvent):
    """A standing question is disarmed."""

    type: Literal["streamvlm.standing.disarmed"] = "streamvlm.standing.disarmed"
    standing_id: str


class StandingFired(ServerEvent):
    """The answer to a standing question has become yes, now or while no client was connected."""

    type: Literal["streamvlm.standing.fired"] = "streamvlm.standing.fired"
    standing_id: str
    question: str
    time_s: float
    probability: float
    evidence: list[Seen]
    number: int = Field(
        description="Counts the events of the session, from 1; send the last as fired_after when you come back."
    )
    missed: int = Field(description="How many events before it were not kept, as there were too many.")

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
    """A warning; the session goes on: a disk that is full, a block that is damaged."""

    type: Literal["streamvlm.notice"] = "streamvlm.notice"
    message: str


class GoingAway(ServerEvent):
    """The server will close this connection; connect again with the id of the session."""

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
