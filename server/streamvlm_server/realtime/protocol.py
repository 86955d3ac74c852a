"""The protocol of a session, without sockets: client events in, server events out, and calls on a stream.

A picture of an item goes to the visual memory and is no turn of the dialogue; an item's text is the question of the
next response. One response at a time writes to the conversation; out-of-band ones may overlap. Nothing of ours is sent
to a client that has not asked for it, and what goes wrong is an ``error`` event, after which the session goes on.

Everything here runs on one thread and at once; whoever owns a protocol decodes pictures before handing events in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from streamvlm.errors import StreamVlmError, UsageError
from streamvlm.gate.gate import Decision
from streamvlm_server.errors import DrainingError, ProtocolError, error_object
from streamvlm_server.realtime import client_events as asked
from streamvlm_server.realtime import server_events as events
from streamvlm_server.realtime.conversation import Conversation, text_of
from streamvlm_server.realtime.response import ResponseWriter, Send
from streamvlm_server.realtime.shapes import (
    ContentPart,
    ErrorBody,
    FrameTimes,
    ImagePart,
    Item,
    NewItem,
    Response,
    ResponseExtension,
    ResponseSettings,
    SessionExtension,
    SessionExtensionState,
    SessionObject,
    SessionSettings,
    StandingObject,
)
from streamvlm_server.realtime.stream_protocol import Fired, StreamProtocol
from streamvlm_server.untrusted.picture import Timed

MAX_DECISIONS = 600
"""Gate decisions that wait for the next tick: at 60 frames/s, ten seconds of them."""


class RealtimeProtocol:
    """One connection's side of a session.

    Args:
        stream: What is watched and asked.
        send: Takes every server event, in order.
        model: Name of the model that answers.
        resume_token: Told to a client that asks for ours, to take the session up again with.
    """

    def __init__(self, stream: StreamProtocol, send: Send, *, model: str, resume_token: str | None = None) -> None:
        self._stream, self._send, self._resume_token = stream, send, resume_token
        self._session = SessionObject(id=stream.id, model=model)
        self._extension: SessionExtension | None = None
        self._conversation = Conversation()
        self._conversation_id = events.new_id("conv")
        self._cancels: dict[str, Callable[[], None]] = {}  # of every response under way
        self._active: str | None = None  # the response that writes to the conversation
        self._disarmed: set[str] = set()
        self._fired_after = 0
        self._source: str | None = None
        self._is_leaving = False
        self._decisions: deque[Decision] = deque(maxlen=MAX_DECISIONS)

    @property
    def is_told_of_ours(self) -> bool:
        """Whether the client has asked for what is ours, and so is told that the server is about to stop."""
        return self._extension is not None

    @property
    def takes_binary_frames(self) -> bool:
        """Whether the client has said that binary messages will be frames."""
        return self._extension is not None and self._extension.binary_frames

    @property
    def is_waited_for(self) -> bool:
        """Whether the client has reason to be silent: something of its is under way."""
        is_told_of_firings = self._extension is not None and bool(self._stream.standing())
        return is_told_of_firings or bool(self._cancels or self._source)

    @property
    def is_answering(self) -> bool:
        """Whether a response is under way."""
        return bool(self._cancels)

    def open(self) -> None:
        """The connection stands."""
        self._send(events.SessionCreated(session=self._session))

    def close(self) -> None:
        """The connection is gone: nobody waits for answers; sources are read and standing questions asked on."""
        for cancel in list(self._cancels.values()):
            cancel()
        self._stream.on_fired(None, after=None)
        self._stream.watch_decisions(None)
        self._stream.on_notice(None)
        self._send = lambda event: None

    def handle(self, event: asked.ClientEvent, pictures: Sequence[Timed] = ()) -> None:
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
        """Tells the client what was not followed, and why; ``param`` names what of it, where the error does not."""
        told = error_object(error)
        told["param"] = told["param"] or param
        if isinstance(error, ProtocolError):
            told["code"], event_id = error.code, error.event_id or event_id
        self._send(events.ErrorEvent(error=ErrorBody.model_validate({**told, "event_id": event_id})))

    def tick(self) -> None:
        """A second has passed: statistics and gate decisions are told, if they are wanted."""
        wanted = self._extension.events if self._extension else []
        if "stats" in wanted:
            self._send(self._stream.stats())
        if "frame" in wanted and self._decisions:
            told = [events.FrameDecision.model_validate(asdict(decision)) for decision in self._decisions]
            self._decisions.clear()
            self._send(events.FrameEvent(decisions=told))

    def going_away(self, reason: str, time_left_s: float) -> None:
        """Tells a client that knows of it that the connection will be closed; no response is begun any more."""
        self._is_leaving = True
        if self._extension is not None:
            self._send(events.GoingAway(reason=reason, time_left_s=time_left_s))

    # --- client events ---

    def _follow(self, event: asked.ClientEvent, pictures: Sequence[Timed]) -> None:
        match event:
            case asked.SessionUpdate():
                self._update(event.session)
            case asked.ItemCreate():
                self._create_item(event, pictures)
            case asked.ItemRetrieve():
                item = self._conversation.get(event.item_id, code="item_retrieve_invalid_item_id")
                self._send(events.ItemRetrieved(item=item))
            case asked.ItemDelete():
                self._conversation.remove(event.item_id)
                self._send(events.ItemDeleted(item_id=event.item_id))
            case asked.ResponseCreate():
                self._respond(event.response or ResponseSettings())
            case asked.ResponseCancel():
                self._cancel(event.response_id)
            case _:
                self._follow_ours(event)

    def _follow_ours(self, event: asked.ClientEvent) -> None:
        if self._extension is None:
            raise ProtocolError(
                "Events of streamvlm are for sessions that asked for them; send session.streamvlm first."
            )
        match event:
            case asked.SourceOpen():
                self._open_source(event)
            case asked.SourceClose():
                self._close_source()
            case asked.StandingArm():
                self._arm(event)
            case asked.StandingDisarm():
                self._disarm(event.standing_id)
            case _:
                raise AssertionError(event)

    def _update(self, settings: SessionSettings) -> None:
        if settings.model not in (None, self._session.model):
            raise ProtocolError(
                f"This session's model is {self._session.model} and stays so; connect again with ?model= for another.",
                param="session.model",
            )
        sent = settings.model_fields_set
        changed: dict[str, object] = {}
        if "max_output_tokens" in sent:
            changed["max_output_tokens"] = settings.max_output_tokens or "inf"
        if "streamvlm" in sent:
            self._extension = settings.streamvlm
            wants_frames = self._extension is not None and "frame" in self._extension.events
            self._stream.watch_decisions(self._decisions.append if wants_frames else None)
            listens, after = (None, None) if self._extension is None else (self._fired, self._extension.fired_after)
            self._fired_after = self._stream.on_fired(listens, after=after)
            self._stream.on_notice(None if self._extension is None else self._notice)
        changed["streamvlm"] = self._extension_state()
        self._session = self._session.model_copy(update=changed)
        self._send(events.SessionUpdated(session=self._session))

    def _extension_state(self) -> SessionExtensionState | None:
        if self._extension is None:
            return None
        armed = self._stream.standing()
        return SessionExtensionState(
            events=self._extension.events,
            binary_frames=self._extension.binary_frames,
            fired_after=self._fired_after,
            session_id=self._stream.id,
            resume_token=self._resume_token,
            time_s=self._stream.stats().time_s,
            standing=[StandingObject(standing_id=one, **asdict(asked)) for one, asked in armed.items()],
        )

    def _create_item(self, event: asked.ItemCreate, pictures: Sequence[Timed]) -> None:
        item_id = event.item.id or events.new_id("item")
        place = self._conversation.place(item_id, event.previous_item_id)
        times = event.item.streamvlm or FrameTimes()
        if times.time_s is not None and len(event.item.images) != 1:
            raise ProtocolError("A time is of one picture; send each in its own item.", param="item.streamvlm.time_s")
        self._offer(pictures, time_s=times.time_s, wall_s=times.captured_s, keep=True)
        item = _shown(event.item, item_id)
        previous = self._conversation.insert(place, item)
        self._send(events.ItemAdded(previous_item_id=previous, item=item))
        self._send(events.ItemDone(previous_item_id=previous, item=item))

    def _offer(self, pictures: Sequence[Timed], *, time_s: float | None, wall_s: float | None, keep: bool) -> None:
        """Offers pictures; those of an animation at their times after its first one."""
        first_s = 0.0
        for after_s, picture in pictures:
            shown_s = first_s + after_s if after_s else time_s
            offered_s = self._stream.offer(picture, time_s=shown_s, wall_s=wall_s, keep=keep)
            first_s = first_s if after_s else offered_s

    # --- responses ---

    def _respond(self, settings: ResponseSettings) -> None:
        in_band = settings.conversation != "none"
        if self._is_leaving:
            raise DrainingError("This server is about to stop; connect again in a moment.")
        if in_band and self._active is not None:
            raise ProtocolError(
                f"Conversation already has an active response in progress: {self._active}. Wait until it is done.",
                code="conversation_already_has_active_response",
            )
        question = self._question(settings, in_band=in_band)
        response = Response(
            id=events.new_id("resp"),
            conversation_id=self._conversation_id if in_band else None,
            max_output_tokens=settings.max_output_tokens or self._session.max_output_tokens,
            metadata=settings.metadata,
        )
        writing = ResponseWriter(
            self._tell,
            response,
            self._conversation if in_band else None,
            session_id=self._stream.id if self._extension and "evidence" in self._extension.events else None,
            ended=partial(self._ended, response.id),
        )
        most = response.max_output_tokens
        self._cancels[response.id] = self._stream.ask(
            question,
            writing,
            at_s=(settings.streamvlm or ResponseExtension()).at_s,
            out_of_band=not in_band,
            max_tokens=None if most == "inf" else most,
        )
        if in_band:
            self._active = response.id
        writing.begin()

    def _notice(self, sentence: str) -> None:
        self._send(events.NoticeEvent(message=sentence))

    def _tell(self, event: events.ServerEvent) -> None:
        self._send(event)  # looked up late: after `close`, nothing is told

    def _question(self, settings: ResponseSettings, *, in_band: bool) -> str:
        if settings.input is not None:
            if in_band:
                raise ProtocolError(
                    'response.input is for out-of-band responses; send "conversation": "none" with it, or create '
                    "items first.",
                    param="response.input",
                )
            said = "\n".join(filter(None, map(self._input_text, settings.input)))
        else:
            said = self._conversation.question()
        question = said or settings.instructions
        if not question:
            raise ProtocolError(
                "There is nothing to answer; create an item with input_text first, or give response.instructions."
            )
        if in_band:
            self._conversation.mark_asked()
        return question

    def _input_text(self, item: object) -> str:
        if isinstance(item, NewItem):
            if item.images:
                raise ProtocolError(
                    "Pictures belong to the stream, not to a response; send them with conversation.item.create.",
                    param="response.input",
                )
            return item.text
        assert hasattr(item, "id"), item
        return text_of(self._conversation.get(item.id))

    def _cancel(self, response_id: str | None) -> None:
        cancel = self._cancels.get(response_id or self._active or "")
        if cancel is None:
            raise ProtocolError(
                "Cancellation failed: no active response found.", code="response_cancel_not_active", param="response_id"
            )
        cancel()

    def _ended(self, response_id: str) -> None:
        self._cancels.pop(response_id, None)
        if self._active == response_id:
            self._active = None

    # --- ours ---

    def _open_source(self, event: asked.SourceOpen) -> None:
        if self._source is not None:
            raise UsageError(f"{self._source} is being read already; close it first.")
        self._stream.pull(
            event.url,
            fps=event.fps,
            stream=event.stream,
            opened=lambda: self._tell(events.SourceOpened(url=event.url)),
            ended=partial(self._source_ended, event.url),
        )
        self._source = event.url

    def _close_source(self) -> None:
        if self._source is None:
            raise UsageError("No source is being read; there is none to close.")
        self._stream.stop_pulling()

    def _source_ended(self, url: str, error: StreamVlmError | None, warning: str | None) -> None:
        self._source = None
        self._send(events.SourceEnded(url=url, error=str(error) if error is not None else None, warning=warning))

    def _arm(self, event: asked.StandingArm) -> None:
        if event.release >= event.threshold:
            raise ProtocolError("release is not below threshold; give a lower one.", param="release")
        self._stream.arm(
            event,
            armed=partial(self._armed, event.question),
            refused=lambda error: self.refuse(error, event.event_id),
        )

    def _armed(self, question: str, standing_id: str) -> None:
        self._send(events.StandingArmed(standing_id=standing_id, question=question))

    def _disarm(self, standing_id: str) -> None:
        if standing_id not in self._stream.standing():
            raise ProtocolError(f"There is no standing question {standing_id}.", param="standing_id")
        self._disarmed.add(standing_id)
        self._stream.disarm(standing_id)
        self._send(events.StandingDisarmed(standing_id=standing_id))

    def _fired(self, fired: Fired) -> None:
        if fired.standing_id not in self._disarmed:  # it may have been on its way
            self._send(
                events.StandingFired(
                    standing_id=fired.standing_id,
                    question=fired.question,
                    time_s=fired.time_s,
                    probability=fired.probability,
                    evidence=[events.Seen.of(seen, self._stream.id) for seen in fired.evidence],
                    number=fired.number,
                    missed=fired.n_missed,
                )
            )


def _shown(item: NewItem, item_id: str) -> Item:
    """An item as it is sent back: without its pictures, which may be larger than any event."""
    content = [
        ContentPart(type=part.type, detail=part.detail)
        if isinstance(part, ImagePart)
        else ContentPart(type=part.type, text=part.text)
        for part in item.content
    ]
    return Item(id=item_id, status="completed", role="user", content=content)
