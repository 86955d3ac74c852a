"""An answer for asyncio: the engine's thread sends its pieces, and the event loop iterates them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.queued_question import Piece
from streamvlm.errors import StreamVlmError
from streamvlm.session.answer import Answer


class AsyncAnswerStream(AsyncIterator[str]):
    """An answer under way: iterate it for its pieces of text; then ``answer`` is the whole.

    Args:
        session: The session to ask.
        question: In plain words.
        at_s: Answer as of this stream time.
        out_of_band: Whether the question neither sees the dialogue nor becomes part of it.
        max_tokens: Most tokens of the answer.
        temperature: 0 takes the likeliest words.

    Attributes:
        answer: The whole answer; None until the pieces have ended.

    Raises:
        StreamVlmError: If the question is refused.
    """

    def __init__(
        self, session: LiveSession, question: str, *, at_s: float | None = None, out_of_band: bool = False,
        max_tokens: int | None = None, temperature: float = 0.0,
    ) -> None:  # fmt: skip
        self.answer: Answer | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Answer | StreamVlmError] = asyncio.Queue()
        self._question = session.ask(
            question, self._tell, at_s=at_s, out_of_band=out_of_band, max_tokens=max_tokens, temperature=temperature
        )

    async def __anext__(self) -> str:
        """Return the next piece; an error that ends the answer is raised."""
        if self.answer is not None:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Piece):
            return event.text
        if isinstance(event, Answer):
            self.answer = event
            raise StopAsyncIteration
        raise event

    def cancel(self) -> None:
        """Cancels the answer, if it has not ended; pieces written so far still come."""
        self._question.cancel()

    def _tell(self, event: Piece | Answer | StreamVlmError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every listener
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
