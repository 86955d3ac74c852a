"""What clients may send, and how a text message becomes an event.

Of the client events of the OpenAI Realtime API (GA) those that pictures and text need, and events of ours, whose types
begin with ``streamvlm.``.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, ValidationError

from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.shapes import Id, ImagePart, NewItem, ResponseSettings, SessionSettings, Shape, Text
from streamvlm_server.untrusted.json_size import MAX_MARKS, is_costly_to_parse
from streamvlm_server.untrusted.validation import first_fault

_UNSUPPORTED = {
    "conversation.item.truncate": "there is no audio to truncate",
    "input_audio_buffer.append": "this server takes pictures and text",
    "input_audio_buffer.commit": "this server takes pictures and text",
    "input_audio_buffer.clear": "this server takes pictures and text",
    "output_audio_buffer.clear": "this server answers in text",
}
"""The client events of the API that are refused, and why."""


class ClientEvent(Shape):
    """What every client event may carry."""

    event_id: str | None = Field(default=None, max_length=512, description="Returned in an error, if there is one.")


class SessionUpdate(ClientEvent):
    """Changes the session's settings."""

    type: Literal["session.update"]
    session: SessionSettings


class ItemCreate(ClientEvent):
    """Adds a message: pictures go to the visual memory, text is the question of the next response.

    It is acknowledged when there is room for its pictures, which are then watched whatever else comes.
    """

    type: Literal["conversation.item.create"]
    item: NewItem
    previous_item_id: Id | None = Field(default=None, description='After which item; "root" is the very front.')

    @property
    def images(self) -> dict[str, str]:
        """The URLs of its pictures, by their places in the event."""
        return {
            f"item.content.{place}.image_url": part.image_url
            for place, part in enumerate(self.item.content)
            if isinstance(part, ImagePart)
        }


class ItemRetrieve(ClientEvent):
    """Asks for an item."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemDelete(ClientEvent):
    """Takes an item out of the conversation; a picture stays in the visual memory."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ResponseCreate(ClientEvent):
    """Asks what the conversation's new messages ask."""

    type: Literal["response.create"]
    response: ResponseSettings | None = None


class ResponseCancel(ClientEvent):
    """Breaks off a response: the one named, or the conversation's."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


class SourceOpen(ClientEvent):
    """Has the server read a video itself and take its frames."""

    type: Literal["streamvlm.source.open"]
    url: str = Field(min_length=1, max_length=4096, description="Of an allowed scheme and host.")
    fps: float = Field(default=1.0, gt=0, le=60, description="Frames to take from a second of video.")
    stream: int | None = Field(default=None, ge=0, description="Which of its video streams, from 0; None: the best.")


class SourceClose(ClientEvent):
    """Has the server stop reading."""

    type: Literal["streamvlm.source.close"]


class StandingArm(ClientEvent):
    """Has a yes-or-no question asked again and again, until it is disarmed; told is when the answer turns to yes."""

    type: Literal["streamvlm.standing.arm"]
    question: Text = Field(min_length=1)
    threshold: float = Field(default=0.8, gt=0, le=1, description="Fires when yes is at least this likely,")
    release: float = Field(default=0.3, ge=0, lt=1, description="and not again before it was at most this likely.")
    every_s: float = Field(default=1.0, gt=0, le=3600, description="Seconds of stream time between two checks.")
    cool_down_s: float = Field(default=5.0, ge=0, le=86_400, description="Seconds of silence after it fired.")


class StandingDisarm(ClientEvent):
    """Ends a standing question."""

    type: Literal["streamvlm.standing.disarm"]
    standing_id: Id


CLIENT_EVENTS: dict[str, type[ClientEvent]] = {
    event.model_fields["type"].annotation.__args__[0]: event  # type: ignore[union-attr]
    for event in (
        SessionUpdate,
        ItemCreate,
        ItemRetrieve,
        ItemDelete,
        ResponseCreate,
        ResponseCancel,
        SourceOpen,
        SourceClose,
        StandingArm,
        StandingDisarm,
    )
}
"""Every client event that is followed, by its type."""


def parse(message: str) -> ClientEvent:
    """The event that a client's text message holds.

    Raises:
        ProtocolError: If it is no JSON object, too intricate a one, of a type not known or not supported, or its fields
            are wrong.
    """
    if is_costly_to_parse(message):
        raise ProtocolError(f"The message has more than {MAX_MARKS} commas or brackets; send less in one event.")
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        raise ProtocolError("The message is no JSON; send one event, a JSON object, in each text message.") from None
    if not isinstance(data, dict):
        raise ProtocolError('The message is JSON but no object; send an event, such as {"type": "response.create"}.')
    event_id = data.get("event_id")
    event_id = event_id if isinstance(event_id, str) and event_id.isprintable() else None
    kind = data.get("type")
    shape = CLIENT_EVENTS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise _not_followed(kind, event_id)
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        param, fault = first_fault(error, known="/v1/realtime/schema.json has them all")
        raise ProtocolError(f"{kind}: {param or 'the event'}: {fault}.", param=param, event_id=event_id) from None


def _not_followed(kind: object, event_id: str | None) -> ProtocolError:
    if isinstance(kind, str) and kind in _UNSUPPORTED:
        return ProtocolError(f"{kind} is not supported: {_UNSUPPORTED[kind]}.", param="type", event_id=event_id)
    return ProtocolError(
        f"There is no event of type {ascii(kind)[:80]}; send one of {', '.join(CLIENT_EVENTS)}.",
        code="unknown_event",
        param="type",
        event_id=event_id,
    )
