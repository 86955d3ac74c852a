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
    """A span of the stream that something rests on: stream times in seconds, and its share of the attention.

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
        status: Whether it is whole, was cut at its longest, or cancelled.
        asked_at_s: Stream time that it looks back from.
        evidence: What it rests on, most attended to first.
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
    """Evidence as the server tells it."""
    return tuple(EvidenceSpan(**seen) for seen in told)


class Reply(AsyncIterator[str]):
    """An answer under way; the question is sent when the first piece is waited for.

    Args:
        begin: Sends the question; its answer comes to ``feed``.
        cancel: Has the server break off the response of an id.
        over: Called once, when nothing more comes.
    """

    def __init__(
        self, begin: Callable[[], Awaitable[None]], cancel: Callable[[str], Awaitable[None]], over: Callable[[], None]
    ) -> None:
        self._begin, self._cancel, self._over = begin, cancel, over
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
        """Breaks the answer off; what there is of it is still told."""
        self._is_cancelled = True
        if self._response_id is not None:
            await self._cancel(self._response_id)

    async def begin_again(self) -> None:
        """Asks once more what was refused; what goes wrong with that is told to who iterates."""
        try:
            await self._begin()
        except RemoteError as error:
            self.fail(error)

    async def feed(self, event: dict[str, Any]) -> None:
        """Takes an event of its response."""
        match event["type"]:
            case "response.created":
                self._response_id = event["response"]["id"]
                if self._is_cancelled:
                    with suppress(RemoteError):  # what is lost with its connection needs no breaking off
                        await self._cancel(event["response"]["id"])
            case "response.output_text.delta":
                self._text += event["delta"]
                self._told.put_nowait(event["delta"])
            case "streamvlm.response.evidence":
                self._evidence = event
            case "response.done":
                self._finish(event["response"])

    def fail(self, error: RemoteError) -> None:
        """Nothing more comes of it."""
        self._told.put_nowait(error)
        self._over()

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
        self._over()
