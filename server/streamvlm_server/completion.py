"""The answer to one chat request: finds or fills the session to ask, asks, and cuts at stop texts."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from streamvlm.engine import Answer, LiveSession
from streamvlm.frame import Picture
from streamvlm_server.answers import AnswerStream
from streamvlm_server.chat_media import FrameReader, MediaLoader
from streamvlm_server.chat_reply import Finish
from streamvlm_server.chat_request import ChatRequest, MediaPart, Message
from streamvlm_server.errors import DrainingError, RequestError
from streamvlm_server.keys import Principal
from streamvlm_server.logs import about
from streamvlm_server.service import Service
from streamvlm_server.stop import StopCutter

logger = logging.getLogger(__name__)

MAX_EARLIER = 16
"""Earlier turns of a request whose questions are asked again; no model has more in view."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user shows, and then asks; ``question`` is empty where they only show."""

    media: Sequence[MediaPart]
    question: str


class Completion:
    """One answer under way.

    Attributes:
        request: What was asked for.
        model: Name of the model.
    """

    def __init__(self, service: Service, principal: Principal, request: ChatRequest) -> None:
        self.request, self.model = request, service.engine.model.name
        self._service, self._principal = service, principal
        self._cutter = StopCutter(request.stop or ())
        self._answering: AnswerStream | None = None
        self._first = self._session_id = ""

    async def begin(self, opened: AsyncExitStack) -> None:
        """Asks, and waits for the first words; ``opened`` is to be closed when the answer has been told.

        Raises:
            StreamVlmError: If something about the request, or the server, does not let it be answered.
        """
        turns = turns_of(self.request.messages)
        self._principal.meter.question()
        if self.request.options.session is not None:
            session = await self._live_session(self.request.options.session, turns)
        else:
            session = await opened.enter_async_context(self._shown(turns))
        self._session_id = session.id
        self._answering = self._ask(session, turns[-1].question)
        opened.callback(self._answering.cancel)
        self._first = await anext(self._answering, "")

    async def texts(self) -> AsyncIterator[str]:
        """Pieces of the answer's text, as they may be told.

        Raises:
            StreamVlmError: If the answer fails, or is broken off by others.
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
        reason = "abort" if self._is_broken_off else self.finish
        self._service.metrics.answered(self.answer, reason)
        took = self.answer.timings
        with about(session_id=self._session_id):
            logger.info("answered (%s): first words after %.3f s, all after %.3f s", reason, took.ttft_s, took.total_s)
        if self._is_broken_off:
            raise DrainingError("The answer was broken off, as its session ends; ask again.")

    @property
    def answer(self) -> Answer:
        """The whole answer, once its texts have ended."""
        answer = self._begun().answer
        assert answer is not None, "an answer that has not ended has no counts"
        return answer

    @property
    def finish(self) -> Finish:
        """Why the answer ended, once it has."""
        return "length" if self.answer.is_cut and not self._cutter.is_cut else "stop"

    @property
    def _is_broken_off(self) -> bool:
        return self.answer.cancelled and not self._cutter.is_cut

    def _begun(self) -> AnswerStream:
        assert self._answering is not None, "begin() comes first"
        return self._answering

    def _ask(self, session: LiveSession, question: str) -> AnswerStream:
        options = self.request.options
        return AnswerStream(
            session,
            question,
            at_s=options.at_s,
            out_of_band=options.out_of_band,
            max_tokens=self.request.most_tokens,
            temperature=self.request.temperature or 0.0,
        )

    async def _live_session(self, session_id: str, turns: Sequence[Turn]) -> LiveSession:
        """A session that lives anyway; it remembers what was said before, so that only the last question counts."""
        if any(turn.media for turn in turns):
            raise RequestError(
                "A live session is shown its frames over /v1/realtime; leave pictures and videos out, or the session.",
                param="messages",
            )
        return await self._service.attachments.visit(session_id, owner=self._principal.owner)

    @asynccontextmanager
    async def _shown(self, turns: Sequence[Turn]) -> AsyncIterator[LiveSession]:
        """A session of its own for this request, in which all turns but the last question have been gone through.

        Earlier questions are asked again, so that the last may refer to them; those before anything was shown are talk.
        """
        fps = self.request.options.fps
        reader = FrameReader(self._service, fps)
        with self._principal.meter.session(), tempfile.TemporaryDirectory(prefix="streamvlm-") as folder:
            loader = MediaLoader(self._service, Path(folder), fps)
            media = [[await loader.load(part) for part in turn.media] for turn in turns]
            self._principal.meter.frames(loader.n_pictures, loader.n_bytes)
            async with self._temporary_session() as session:
                for to_come, (turn, shown) in enumerate(zip(turns, media, strict=True), 1 - len(turns)):
                    await _show(session, reader.frames(shown))
                    if turn.question and reader.n_frames and -MAX_EARLIER <= to_come < 0:
                        async for _ in AnswerStream(session, turn.question):
                            pass
                self._principal.meter.owe_frames(reader.n_frames - loader.n_pictures)
                yield session

    @asynccontextmanager
    async def _temporary_session(self) -> AsyncIterator[LiveSession]:
        def opened() -> LiveSession:
            return self._service.engine.open(owner=self._principal.owner, is_temporary=True)

        opening = asyncio.ensure_future(self._service.attachments.with_room(opened))
        try:
            yield await asyncio.shield(opening)
        finally:
            await asyncio.wait([opening])  # a client that goes away meanwhile does not keep it from opening
            if opening.exception() is None:
                await asyncio.shield(asyncio.to_thread(opening.result().close))


async def _show(session: LiveSession, frames: Generator[tuple[float, Picture], None, None]) -> None:
    """Has a session watch frames, decoded on a thread no faster than they are watched."""
    is_over = threading.Event()

    def show() -> None:
        with closing(frames):
            for time_s, picture in frames:
                if is_over.is_set():
                    return
                session.offer(picture, time_s=time_s, wait=True)

    showing = asyncio.ensure_future(asyncio.to_thread(show))
    try:
        await asyncio.shield(showing)
    finally:
        is_over.set()
        await asyncio.gather(showing, return_exceptions=True)


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """The user's turns; what the assistant said it will say again, and a system prompt the model has of its own.

    Raises:
        RequestError: If the last message asks nothing.
    """
    if messages[-1].role != "user" or not messages[-1].text:
        raise RequestError("The last message asks nothing; let it be the user's, with a text.", param="messages")
    return [Turn(message.media, message.text) for message in messages if message.role == "user"]
