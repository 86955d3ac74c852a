"""The protocol of a session, without sockets: client events in, server events out, and calls on a stream.

A picture of an item goes to the visual memory and is no turn of the dialogue; an item's text is the question of the
next response. What cannot be done is an ``error`` event, after which the session goes on.

Everything here runs on one thread and returns at once; pictures are decoded before an event is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from streamvlm.errors import StreamVlmError
from streamvlm_server.errors import DrainingError, ProtocolError
from streamvlm_server.realtime import client_events, server_events
from streamvlm_server.realtime.conversation import Conversation
from streamvlm_server.realtime.event_sink import EventSink
from streamvlm_server.realtime.extension import Extension
from streamvlm_server.realtime.responses import Responses
from streamvlm_server.realtime.shapes import (
    ContentPart,
    FrameTimes,
    ImagePart,
    Item,
    NewItem,
    ResponseSettings,
    SessionObject,
    SessionSettings,
)
from streamvlm_server.realtime.stream_protocol import StreamProtocol
from streamvlm_server.untrusted.picture import Timed


class ProtocolState(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    LEAVING = "leaving"
    """The server is about to stop: no response is begun any more."""
    CLOSED = "closed"


class RealtimeProtocol:
    """One connection's side of a session: follows what the client sends.

    Args:
        stream: What is watched and asked.
        sink: Takes every server event, in order; it is closed with the protocol.
        model: Name of the model that answers.
        resume_token: Takes the session up again; sent to a client that asks for the extension.

    Attributes:
        state: Where the connection is in its life.
    """

    def __init__(self, stream: StreamProtocol, sink: EventSink, *, model: str, resume_token: str | None = None) -> None:
        self.state = ProtocolState.CONNECTING
        self._stream, self._sink = stream, sink
        self._session = SessionObject(id=stream.id, model=model)
        self._conversation = Conversation()
        self._responses = Responses(stream, sink, self._conversation)
        self._extension = Extension(stream, sink, resume_token)

    @property
    def is_extended(self) -> bool:
        """Whether the client has asked for the extension, and so knows when the server is about to stop."""
        return self._extension.settings is not None

    @property
    def takes_binary_frames(self) -> bool:
        """Whether the client has said that binary messages will be frames."""
        return self._extension.settings is not None and self._extension.settings.binary_frames

    @property
    def is_waited_for(self) -> bool:
        """Whether the client has reason to be silent, as it waits for an answer, a source or a standing question."""
        return self.is_answering or self._extension.is_waited_for

    @property
    def is_answering(self) -> bool:
        """Whether a response is under way."""
        return bool(self._responses.under_way)

    def open(self) -> None:
        """Begins the session."""
        self.state = ProtocolState.OPEN
        self._sink.send(server_events.SessionCreated(session=self._session))

    def close(self) -> None:
        """Ends the connection: cancels its answers; sources and standing questions belong to the session and go on."""
        self.state = ProtocolState.CLOSED
        self._responses.cancel_all()
        self._extension.close()
        self._sink.close()

    def handle(self, event: client_events.ClientEvent, pictures: Sequence[Timed] = ()) -> None:
        """Follows a client event.

        Args:
            event: What the client sent.
            pictures: Those of its item, decoded; there is room for them in the stream.
        """
        try:
            self._follow(event, pictures)
        except StreamVlmError as error:
            self.refuse(error, event.event_id)

    def frame(self, pictures: Sequence[Timed], *, time_s: float | None, wall_s: float | None) -> None:
        """Takes the picture of a binary message, or those of an animation, which give way to newer ones.

        Args:
            pictures: Decoded.
            time_s: As in `streamvlm.wire`.
            wall_s: The same.

        Raises:
            StreamVlmError: If the stream refuses it.
        """
        self._offer(pictures, time_s=time_s, wall_s=wall_s, keep=False)

    def refuse(self, error: Exception, event_id: str | None = None, *, param: str | None = None) -> None:
        """Sends an error event; see ``ErrorEvent.of``."""
        self._sink.send(server_events.ErrorEvent.of(error, event_id, param=param))

    def tick(self) -> None:
        """Sends what the client wants to know every second."""
        if self._extension.tick_events:
            self._extension.tick()

    def leave(self, reason: str, time_left_s: float) -> None:
        """Begins no more responses; warns a client of the extension that the connection will be closed."""
        self.state = ProtocolState.LEAVING
        if self.is_extended:
            self._sink.send(server_events.GoingAway(reason=reason, time_left_s=time_left_s))

    def _follow(self, event: client_events.ClientEvent, pictures: Sequence[Timed]) -> None:
        match event:
            case client_events.SessionUpdate():
                self._update(event.session)
            case client_events.ItemCreate():
                self._create_item(event, pictures)
            case client_events.ItemRetrieve():
                item = self._conversation.get(event.item_id, code="item_retrieve_invalid_item_id")
                self._sink.send(server_events.ItemRetrieved(item=item))
            case client_events.ItemDelete():
                self._conversation.remove(event.item_id)
                self._sink.send(server_events.ItemDeleted(item_id=event.item_id))
            case client_events.ResponseCreate():
                self._respond(event.response or ResponseSettings())
            case client_events.ResponseCancel():
                self._responses.cancel(event.response_id)
            case _:
                self._extension.follow(event)

    def _update(self, settings: SessionSettings) -> None:
        if settings.model not in (None, self._session.model):
            raise ProtocolError(
                f"This session's model is {self._session.model} and stays so; connect again with ?model= for another.",
                param="session.model",
            )
        changed: dict[str, object] = {}
        if "max_output_tokens" in settings.model_fields_set:
            changed["max_output_tokens"] = settings.max_output_tokens or "inf"
        if "streamvlm" in settings.model_fields_set:
            self._extension.update(settings.streamvlm)
        changed["streamvlm"] = self._extension.state()
        self._session = self._session.model_copy(update=changed)
        self._sink.send(server_events.SessionUpdated(session=self._session))

    def _respond(self, settings: ResponseSettings) -> None:
        if self.state is ProtocolState.LEAVING:
            raise DrainingError("This server is about to stop; connect again in a moment.")
        extension = self._extension.settings
        self._responses.create(
            settings,
            max_output_tokens=settings.max_output_tokens or self._session.max_output_tokens,
            with_evidence=extension is not None and "evidence" in extension.events,
        )

    def _create_item(self, event: client_events.ItemCreate, pictures: Sequence[Timed]) -> None:
        item_id = event.item.id or server_events.new_id("item")
        place = self._conversation.place(item_id, event.previous_item_id)
        times = event.item.streamvlm or FrameTimes()
        if times.time_s is not None and len(event.images) != 1:
            raise ProtocolError("A time is of one picture; send each in its own item.", param="item.streamvlm.time_s")
        self._offer(pictures, time_s=times.time_s, wall_s=times.captured_s, keep=True)
        item = _shown(event.item, item_id)
        previous = self._conversation.insert(place, item)
        self._sink.send(server_events.ItemAdded(previous_item_id=previous, item=item))
        self._sink.send(server_events.ItemDone(previous_item_id=previous, item=item))

    def _offer(self, pictures: Sequence[Timed], *, time_s: float | None, wall_s: float | None, keep: bool) -> None:
        """Offers pictures; those of an animation at their times after its first one."""
        first_s = 0.0
        for after_s, picture in pictures:
            shown_s = first_s + after_s if after_s else time_s
            offered_s = self._stream.offer(picture, time_s=shown_s, wall_s=wall_s, keep=keep)
            first_s = first_s if after_s else offered_s


def _shown(item: NewItem, item_id: str) -> Item:
    """Returns an item as it is sent back: without its pictures, which may be larger than any event."""
    content = [
        ContentPart(type=part.type, detail=part.detail)
        if isinstance(part, ImagePart)
        else ContentPart(type=part.type, text=part.text)
        for part in item.content
    ]
    return Item(id=item_id, status="completed", role="user", content=content)
