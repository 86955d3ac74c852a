"""The events that clients send, and how a text message is parsed to one.

These are the client events of the OpenAI Realtime API (GA) for pictures and text, and those of the streamvlm extension,
whose types begin with ``streamvlm.``.
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
"""Client events of the API that are refused, and the reason."""


class ClientEvent(Shape):
    """The fields of every client event."""

    event_id: str | None = Field(
        default=None, max_length=512, description="Sent back in the error event, if there is one."
    )


class SessionUpdate(ClientEvent):
    """Changes the session's settings."""

    type: Literal["session.update"]
    session: SessionSettings


class ItemCreate(ClientEvent):
    """Adds a message: its pictures go to the visual memory, its text is the question of the next response.

    It is acknowledged when there is room for its pictures; they are then watched in any case.
    """

    type: Literal["conversation.item.create"]
    item: NewItem
    previous_item_id: Id | None = Field(
        default=None, description='Id of the item to put it after; "root" puts it first.'
    )

    @property
    def images(self) -> dict[str, str]:
        """The URLs of its pictures, by their places in the event."""
        return {
            f"item.content.{place}.image_url": part.image_url
            for place, part in enumerate(self.item.content)
            if isinstance(part, ImagePart)
        }


class ItemRetrieve(ClientEvent):
    """Asks to send an item back."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemDelete(ClientEvent):
    """Deletes an item from the conversation; its pictures stay in the visual memory."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ResponseCreate(ClientEvent):
    """Asks to answer the new messages of the conversation."""

    type: Literal["response.create"]
    response: ResponseSettings | None = None


class ResponseCancel(ClientEvent):
    """Cancels a response: the one named, or the one that writes to the conversation."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


class SourceOpen(ClientEvent):
    """Lets the server read a video itself and take its frames."""

    type: Literal["streamvlm.source.open"]
    url: str = Field(min_length=1, max_length=4096, description="URL of an allowed scheme and host.")
    fps: float = Field(default=1.0, gt=0, le=60, description="Frames to take from a second of video.")
    stream: int | None = Field(default=None, ge=0, description="Which of its video streams, from 0; None: the best.")


class SourceClose(ClientEvent):
    """Lets the server stop reading the video."""

    type: Literal["streamvlm.source.close"]


class StandingArm(ClientEvent):
    """Arms a standing question, answered yes or no until it is disarmed; it fires when its answer becomes yes."""

    type: Literal["streamvlm.standing.arm"]
    question: Text = Field(min_length=1)
    threshold: float = Field(default=0.8, gt=0, le=1, description="It fires when yes is at least this likely,")
    release: float = Field(default=0.3, ge=0, lt=1, description="and not again before yes was at most this likely.")
    every_s: float = Field(default=1.0, gt=0, le=3600, description="Seconds of stream time between two checks.")
    cool_down_s: float = Field(
        default=5.0,
        ge=0,
        le=86_400,
        description="Stream time after it fired, in seconds, in which it does not fire again.",
    )


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
"""Every client event, by its type."""


def parse(message: str) -> ClientEvent:
    """Parses a client's text message to an event.

    Raises:
        ProtocolError: If it is no JSON object, too complex, of an unknown or unsupported type, or has a wrong field.
    """
    if len(message) > MAX_MARKS and is_costly_to_parse(message):
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
