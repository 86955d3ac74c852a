"""The responses of one connection: what each is asked, which are under way, and how they are cancelled.

One response at a time writes to the conversation; responses out of band leave it alone and may overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.conversation import Conversation, text_of
from streamvlm_server.realtime.event_sink import EventSink
from streamvlm_server.realtime.response_writer import ResponseWriter
from streamvlm_server.realtime.shapes import (
    ImagePart,
    ItemReference,
    NewItem,
    ResponseExtension,
    ResponseSettings,
    TextPart,
)
from streamvlm_server.realtime.stream_protocol import StreamProtocol


class Responses:
    """Creates responses, and cancels them.

    Args:
        stream: What is asked.
        sink: Takes the events of every response.
        conversation: What is asked about, and where answers are written.

    Attributes:
        under_way: The functions that cancel the responses under way, by the ids of these.
    """

    def __init__(self, stream: StreamProtocol, sink: EventSink, conversation: Conversation) -> None:
        self._stream, self._sink, self._conversation = stream, sink, conversation
        self._active: str | None = None  # the last response that wrote to the conversation
        self.under_way: dict[str, Callable[[], None]] = {}

    def create(
        self, settings: ResponseSettings, *, max_output_tokens: int | Literal["inf"], with_evidence: bool
    ) -> None:
        """Asks the stream and sends ``response.created``; the answer follows.

        Args:
            settings: As the client sent them.
            max_output_tokens: Most tokens of the answer.
            with_evidence: Whether the client wants to know what the answer rests on.

        Raises:
            StreamVlmError: If there is nothing to ask, or the question is refused.
        """
        in_band = settings.conversation != "none"
        if in_band and self._active in self.under_way:
            raise ProtocolError(
                f"Conversation already has an active response in progress: {self._active}. Wait until it is done.",
                code="conversation_already_has_active_response",
            )
        question = self._question(settings, in_band=in_band)
        writer = ResponseWriter(
            self._sink,
            self._conversation if in_band else None,
            max_output_tokens=max_output_tokens,
            metadata=settings.metadata,
            session_id=self._stream.id if with_evidence else None,
            ended=self.under_way.pop,
        )
        self.under_way[writer.id] = self._stream.ask(
            question,
            writer.hear,
            at_s=(settings.streamvlm or ResponseExtension()).at_s,
            out_of_band=not in_band,
            max_tokens=None if max_output_tokens == "inf" else max_output_tokens,
        )
        if in_band:
            self._active = writer.id
        writer.begin()

    def cancel(self, response_id: str | None) -> None:
        """Cancels the response of an id; None: the one that writes to the conversation.

        Raises:
            ProtocolError: If it is not under way.
        """
        cancel = self.under_way.get(response_id or self._active or "")
        if cancel is None:
            raise ProtocolError(
                "Cancellation failed: no active response found.", code="response_cancel_not_active", param="response_id"
            )
        cancel()

    def cancel_all(self) -> None:
        """Cancels every response under way."""
        for cancel in list(self.under_way.values()):
            cancel()

    def _question(self, settings: ResponseSettings, *, in_band: bool) -> str:
        if settings.input is None:
            said = self._conversation.question()
        elif in_band:
            raise ProtocolError(
                'response.input is for out-of-band responses; send "conversation": "none" with it, or create '
                "items first.",
                param="response.input",
            )
        else:
            said = "\n".join(filter(None, map(self._input_text, settings.input)))
        question = said or settings.instructions
        if not question:
            raise ProtocolError(
                "There is nothing to answer; create an item with input_text first, or give response.instructions."
            )
        if in_band:
            self._conversation.mark_asked()
        return question

    def _input_text(self, item: NewItem | ItemReference) -> str:
        if isinstance(item, ItemReference):
            return text_of(self._conversation.get(item.id))
        if any(isinstance(part, ImagePart) for part in item.content):
            raise ProtocolError(
                "Pictures belong to the stream, not to a response; send them with conversation.item.create.",
                param="response.input",
            )
        return "\n".join(part.text for part in item.content if isinstance(part, TextPart))
