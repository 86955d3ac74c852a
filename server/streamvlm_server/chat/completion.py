"""The answer to one chat request: finds or fills a session, asks it, and cuts the answer at stop texts."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from streamvlm.engine.live_session import LiveSession
from streamvlm.session.answer import Answer
from streamvlm_server.access.keys import Principal
from streamvlm_server.chat.answer_stream import AsyncAnswerStream
from streamvlm_server.chat.own_session import UserTurn, own_session
from streamvlm_server.chat.reply import Finish
from streamvlm_server.chat.request import ChatRequest, Message
from streamvlm_server.chat.stop_texts import StopCutter
from streamvlm_server.errors import DrainingError, RequestError
from streamvlm_server.monitoring.logs import about
from streamvlm_server.service import Service

logger = logging.getLogger(__name__)


class Completion:
    """One answer under way.

    Attributes:
        request: The request.
        model: Name of the model.
        warnings: Warnings about the videos of the request.
    """

    def __init__(self, service: Service, principal: Principal, request: ChatRequest) -> None:
        self.request, self.model = request, service.engine.model.name
        self._service, self._principal = service, principal
        self._cutter = StopCutter(request.stop or ())
        self._answering: AsyncAnswerStream | None = None
        self._first = self._session_id = ""
        self.warnings: Sequence[str] = ()

    async def begin(self, opened: AsyncExitStack) -> None:
        """Asks, and waits for the first words; ``opened`` is to be closed when the answer has been sent.

        Raises:
            StreamVlmError: If the request cannot be answered.
        """
        turns = turns_of(self.request.messages)
        self._principal.meter.question()
        if self.request.options.session is not None:
            session = await self._live_session(self.request.options.session, turns)
        else:
            shown = own_session(self._service, self._principal, turns, self.request.options.fps)
            session, self.warnings = await opened.enter_async_context(shown)
        self._session_id = session.id
        self._answering = self._ask(session, turns[-1].question)
        opened.callback(self._answering.cancel)
        self._first = await anext(self._answering, "")

    async def texts(self) -> AsyncIterator[str]:
        """Yields the pieces of the answer's text, cut at stop texts.

        Raises:
            StreamVlmError: If the answer fails, or is cancelled as its session ends.
        """
        if text := self._cutter.feed(self._first):
            yield text
        async for piece in self._begun():
            if text := self._cutter.feed(piece):
                yield text
            if self._cutter.is_cut:
                self._begun().cancel()
        if text := self._cutter.finish():
            yield text
        reason = "abort" if self._is_cancelled else self.finish
        self._service.metrics.answered(self.answer, reason)
        took = self.answer.timings
        with about(session_id=self._session_id):
            logger.info("answered (%s): first words after %.3f s, all after %.3f s", reason, took.ttft_s, took.total_s)
        if self._is_cancelled:
            raise DrainingError("The answer was broken off, as its session ends; ask again.")

    @property
    def answer(self) -> Answer:
        """The whole answer, once ``texts`` has ended."""
        answer = self._begun().answer
        assert answer is not None, "an answer that has not ended has no counts"
        return answer

    @property
    def finish(self) -> Finish:
        """The reason why the answer ended, once it has."""
        return "length" if self.answer.is_cut and not self._cutter.is_cut else "stop"

    @property
    def _is_cancelled(self) -> bool:
        return self.answer.cancelled and not self._cutter.is_cut

    def _begun(self) -> AsyncAnswerStream:
        assert self._answering is not None, "begin() comes first"
        return self._answering

    def _ask(self, session: LiveSession, question: str) -> AsyncAnswerStream:
        options = self.request.options
        return AsyncAnswerStream(
            session,
            question,
            at_s=options.at_s,
            out_of_band=options.out_of_band,
            max_tokens=self.request.most_tokens,
            temperature=self.request.temperature or 0.0,
        )

    async def _live_session(self, session_id: str, turns: Sequence[UserTurn]) -> LiveSession:
        """Finds a live session; it remembers its dialogue, so only the last question is asked."""
        if any(turn.media for turn in turns):
            raise RequestError(
                "A live session is shown its frames over /v1/realtime; leave pictures and videos out, or the session.",
                param="messages",
            )
        return await self._service.session_leases.find(session_id, owner=self._principal.owner)


def turns_of(messages: Sequence[Message]) -> list[UserTurn]:
    """Returns the user's turns; the model answers earlier ones anew, and has a system prompt of its own.

    Raises:
        RequestError: If the last message has no question.
    """
    if messages[-1].role != "user" or not messages[-1].text:
        raise RequestError("The last message asks nothing; let it be the user's, with a text.", param="messages")
    return [
        UserTurn(message.shown(f"messages.{place}"), message.text)
        for place, message in enumerate(messages)
        if message.role == "user"
    ]
