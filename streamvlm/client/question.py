"""One question to a server: waits for its turn, goes out as events, and keeps its turn until its reply has ended."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from streamvlm.client.errors import RemoteError
from streamvlm.client.link import Event, Link
from streamvlm.client.reply import Reply


class RemoteQuestion:
    """Sends one question; ``reply`` does that when its first piece is waited for.

    Args:
        link: The connection to the server.
        text: The question, in plain words.
        at_s: Answer as of this stream time; None: as of now.
        max_tokens: Most tokens of the answer; None: as many as the server allows.
        turn: Lock of the conversation, which has one response at a time; None asks out of band.
        replies: Takes the reply, by the question's id, as long as events for it may come.
        start: Runs a coroutine to its end, even when its caller is cancelled.

    Attributes:
        reply: The answer under way.
    """

    def __init__(
        self,
        link: Link,
        text: str,
        *,
        at_s: float | None,
        max_tokens: int | None,
        turn: asyncio.Lock | None,
        replies: dict[str, Reply],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.reply = Reply(self._begin, self._cancel, self._end)
        self._link, self._turn, self._replies, self._start = link, turn, replies, start
        self._has_turn = False
        self._id = f"ask_{secrets.token_hex(8)}"
        self._item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        self._response: Event = {
            "metadata": {"asked_id": self._id},
            "max_output_tokens": max_tokens,
            "streamvlm": {"at_s": at_s},
        }
        if turn is None:
            self._response |= {"conversation": "none", "input": [self._item]}

    async def _begin(self) -> None:
        if self._turn is not None and not self._has_turn:  # a question that is asked again has kept its turn
            self._has_turn = await self._turn.acquire()
        try:
            await self._link.ready()
        except BaseException:
            self._end()
            raise
        self._replies[self._id] = self.reply
        self._start(self._send())  # both events, as an item alone would be part of the next question

    async def _send(self) -> None:
        try:
            if self._turn is not None:
                await self._send_event("conversation.item.create", item=self._item)
            await self._send_event("response.create", response=self._response)
        except RemoteError as error:
            if self._id in self._replies:  # else it was refused meanwhile, and waits for the next connection
                self.reply.fail(error)

    async def _send_event(self, kind: str, **fields: Any) -> None:
        await self._link.send_event({"type": kind, "event_id": self._id, **fields})

    async def _cancel(self, response_id: str) -> None:
        cancel = {"type": "response.cancel", "event_id": f"cancel_{self._id}", "response_id": response_id}
        await self._link.send_event(cancel)

    def _end(self) -> None:
        self._replies.pop(self._id, None)
        if self._turn is not None and self._has_turn:
            self._has_turn = False
            self._turn.release()
