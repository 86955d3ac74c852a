"""The life of one response: created, written piece by piece, done; its events come in the API's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from streamvlm.engine.queued_question import Piece
from streamvlm.session.answer import Answer
from streamvlm_server.error_codes import error_object
from streamvlm_server.realtime import server_events as events
from streamvlm_server.realtime.conversation import Conversation
from streamvlm_server.realtime.event_sink import EventSink
from streamvlm_server.realtime.shapes import (
    ContentPart,
    InputTokenDetails,
    Item,
    OutputTokenDetails,
    Response,
    StatusDetails,
    StatusError,
    Usage,
)


class ResponseWriter:
    """Writes an answer, piece by piece, as the events of one response.

    Args:
        sink: Takes the events.
        conversation: What its message joins; None for an out-of-band response.
        max_output_tokens: Most tokens of the answer.
        metadata: Of the client; sent back as it is.
        session_id: Id of the session, for links in the evidence; None sends no evidence.
        ended: Called once, with the id of the response, just before it is done.

    Attributes:
        id: Of the response.
    """

    def __init__(
        self,
        sink: EventSink,
        conversation: Conversation | None,
        *,
        max_output_tokens: int | Literal["inf"],
        metadata: dict[str, str] | None,
        session_id: str | None,
        ended: Callable[[str], object],
    ) -> None:
        self.id = events.new_id("resp")
        self._sink, self._conversation = sink, conversation
        self._session_id, self._has_ended = session_id, ended
        self._response = Response(
            id=self.id,
            conversation_id=None if conversation is None else conversation.id,
            max_output_tokens=max_output_tokens,
            metadata=metadata,
        )
        self._item_id, self._text = events.new_id("item"), ""
        self._previous: str | None = None
        self._is_open = False

    def begin(self) -> None:
        """Sends that the response is under way."""
        self._sink.send(events.ResponseCreated(response=self._response))

    def hear(self, event: Piece | Answer | Exception) -> None:
        """Takes the next piece of the answer, or its end: the whole answer, or the error it came to."""
        match event:
            case Piece(text):
                self._write(text)
            case Answer():
                self._done(event)
            case _:
                self._failed(event)

    def _write(self, piece: str) -> None:
        self._open()
        self._text += piece
        self._sink.send(events.TextDelta(response_id=self.id, item_id=self._item_id, delta=piece))

    def _done(self, answer: Answer) -> None:
        if answer.cancelled:
            details = StatusDetails(type="cancelled", reason="client_cancelled")
        elif answer.is_cut:
            details = StatusDetails(type="incomplete", reason="max_output_tokens")
        else:
            details = None
            self._open()
        self._close("incomplete" if details else "completed")
        if self._session_id is not None:
            self._send_evidence(answer, self._session_id)
        self._finish(details, _usage(answer))

    def _failed(self, error: Exception) -> None:
        self._close("incomplete")
        body = error_object(error)
        error_body = StatusError(type=str(body["type"]), code=str(body["code"]), message=str(body["message"]))
        self._finish(StatusDetails(type="failed", error=error_body), Usage())

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        item = self._item("in_progress", [])
        self._sink.send(events.OutputItemAdded(response_id=self.id, item=item))
        if self._conversation is not None:
            self._previous = self._conversation.append(item)
            self._sink.send(events.ItemAdded(previous_item_id=self._previous, item=item))
        part = events.OutputPart(text="")
        self._sink.send(events.ContentPartAdded(response_id=self.id, item_id=self._item_id, part=part))

    def _close(self, status: Literal["completed", "incomplete"]) -> None:
        if not self._is_open:
            return
        part = events.OutputPart(text=self._text)
        self._sink.send(events.TextDone(response_id=self.id, item_id=self._item_id, text=self._text))
        self._sink.send(events.ContentPartDone(response_id=self.id, item_id=self._item_id, part=part))
        item = self._item(status, [ContentPart(type="output_text", text=self._text)])
        self._sink.send(events.OutputItemDone(response_id=self.id, item=item))
        if self._conversation is not None:
            self._conversation.update(item)
            self._sink.send(events.ItemDone(previous_item_id=self._previous, item=item))
        self._response = self._response.model_copy(update={"output": [item]})

    def _finish(self, details: StatusDetails | None, usage: Usage) -> None:
        status = details.type if details else "completed"
        update = {"status": status, "status_details": details, "usage": usage}
        self._has_ended(self.id)
        self._sink.send(events.ResponseDone(response=self._response.model_copy(update=update)))

    def _send_evidence(self, answer: Answer, session_id: str) -> None:
        self._sink.send(
            events.EvidenceEvent(
                response_id=self.id,
                asked_at_s=answer.asked_at_s,
                evidence=[events.Seen.of(seen, session_id) for seen in answer.evidence],
                ttft_s=answer.timings.ttft_s,
                total_s=answer.timings.total_s,
            )
        )

    def _item(self, status: Literal["in_progress", "completed", "incomplete"], content: list[ContentPart]) -> Item:
        return Item(id=self._item_id, status=status, role="assistant", content=content)


def _usage(answer: Answer) -> Usage:
    read, written = answer.tokens.question + answer.tokens.context, answer.tokens.answer
    return Usage(
        total_tokens=read + written,
        input_tokens=read,
        output_tokens=written,
        input_token_details=InputTokenDetails(
            text_tokens=answer.tokens.question,
            image_tokens=answer.tokens.context,
            cached_tokens=answer.tokens.context,
        ),
        output_token_details=OutputTokenDetails(text_tokens=written),
    )
