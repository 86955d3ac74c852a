"""An answer on its way from a server: iterate it for its pieces; then ``answer`` is the whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from streamvlm.client.errors import RemoteError


@dataclass(frozen=True, slots=True)
class EvidenceSpan:
    """A span of the stream that an answer or alert rests on: stream times in seconds, and its share of the attention.

    ``block_id`` and ``thumbnail``, a path on the server, are None for the frame at question time, which is in no block.
    """

    start_s: float
    end_s: float
    fidelity: Literal["clear", "fuzzy"]
    score: float
    block_id: int | None
    thumbnail: str | None


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """A finished answer.

    Attributes:
        text: The whole answer.
        status: ``completed``, ``incomplete`` if it reached its most tokens, or ``cancelled``.
        asked_at_s: Stream time as of which it answers.
        evidence: The spans of the stream that it rests on, most attended to first.
        ttft_s: Seconds that the server took from the question to the first words.
        usage: Tokens read and written, in the words of OpenAI's API.
    """

    text: str
    status: Literal["completed", "incomplete", "cancelled"]
    asked_at_s: float
    evidence: tuple[EvidenceSpan, ...]
    ttft_s: float
    usage: dict[str, Any]


def spans(told: list[dict[str, Any]]) -> tuple[EvidenceSpan, ...]:
    """Converts evidence as the server sends it."""
    return tuple(EvidenceSpan(**seen) for seen in told)


class Reply(AsyncIterator[str]):
    """An answer under way; the question is sent when the first piece is waited for.

    Args:
        begin: Sends the question; its events are then passed to ``feed``.
        cancel: Cancels the response of an id.
        ended: Called once, when nothing more comes.
    """

    def __init__(
        self, begin: Callable[[], Awaitable[None]], cancel: Callable[[str], Awaitable[None]], ended: Callable[[], None]
    ) -> None:
        self._begin, self._cancel, self._has_ended = begin, cancel, ended
        self._has_begun = self._is_cancelled = False
        self._response_id: str | None = None
        self._evidence: dict[str, Any] = {}
        self._text = ""
        self._told: asyncio.Queue[str | RemoteAnswer | RemoteError] = asyncio.Queue()
        self._end: RemoteAnswer | RemoteError | None = None

    @property
    def answer(self) -> RemoteAnswer:
        """The whole answer, once its pieces have ended; raises as iterating does."""
        if self._end is None:
            raise ValueError("the answer has not ended; iterate it first, or await `whole()`")
        if isinstance(self._end, RemoteError):
            raise self._end
        return self._end

    async def __anext__(self) -> str:
        """Return the next piece.

        Raises:
            RemoteError: If the question is refused, fails, or its connection is lost; from then on always.
        """
        if self._end is None:
            told = await self._next()
            if isinstance(told, str):
                return told
            self._end = told
        if isinstance(self._end, RemoteError):
            raise self._end
        raise StopAsyncIteration

    async def whole(self) -> RemoteAnswer:
        """Waits for the end; raises as iterating does."""
        async for _ in self:
            pass
        return self.answer

    async def cancel(self) -> None:
        """Cancels the answer; the pieces that are written already still come."""
        self._is_cancelled = True
        if self._response_id is not None:
            await self._cancel(self._response_id)

    async def begin_again(self) -> None:
        """Asks once more after a refusal; an error is raised where the reply is iterated."""
        try:
            await self._begin()
        except RemoteError as error:
            self.fail(error)

    async def feed(self, event: dict[str, Any]) -> None:
        """Takes an event of the response."""
        match event["type"]:
            case "response.created":
                self._response_id = event["response"]["id"]
                if self._is_cancelled:
                    with suppress(RemoteError):  # a connection that is lost ends its responses
                        await self._cancel(event["response"]["id"])
            case "response.output_text.delta":
                self._text += event["delta"]
                self._told.put_nowait(event["delta"])
            case "streamvlm.response.evidence":
                self._evidence = event
            case "response.done":
                self._finish(event["response"])

    def fail(self, error: RemoteError) -> None:
        """Ends the reply with an error."""
        self._told.put_nowait(error)
        self._has_ended()

    async def _next(self) -> str | RemoteAnswer | RemoteError:
        if not self._has_begun:
            try:
                await self._begin()
            except RemoteError as error:
                return error
            self._has_begun = True
        return await self._told.get()

    def _finish(self, response: dict[str, Any]) -> None:
        if response["status"] == "failed":
            error = response["status_details"]["error"]
            self.fail(RemoteError(error["message"], code=error["code"]))
            return
        self._told.put_nowait(
            RemoteAnswer(
                self._text,
                response["status"],
                self._evidence.get("asked_at_s", 0.0),
                spans(self._evidence.get("evidence", [])),
                self._evidence.get("ttft_s", 0.0),
                response["usage"],
            )
        )
        self._has_ended()
