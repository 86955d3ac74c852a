"""A session whose source the server reads, asked through both APIs of OpenAI's own package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
from openai.resources.realtime.realtime import AsyncRealtimeConnection


@dataclass(frozen=True)
class Said:
    """An answer; ``asked_at_s`` is the stream time it looks back from, ``evidence`` the seconds it rests on."""

    text: str
    asked_at_s: float
    evidence: list[tuple[float, float]]


class Viewer:
    """Makes the server read a source, and asks over the WebSocket or over HTTP."""

    def __init__(self, client: openai.AsyncOpenAI, connection: AsyncRealtimeConnection) -> None:
        self._client, self._connection, self._session_id = client, connection, ""

    async def opt_in(self) -> None:
        """Switches our extension on."""
        ours: Any = {"type": "realtime", "streamvlm": {"events": ["stats", "evidence"]}}
        await self._connection.session.update(session=ours)
        self._session_id = (await self.event("session.updated")).session.streamvlm["session_id"]

    async def open(self, url: str, *, fps: float) -> None:
        """Makes the server open a source, again until the source is there; returns when reading has begun."""
        opening: Any = {"type": "streamvlm.source.open", "url": url, "fps": fps}
        await self._connection.send(opening)
        while (await self.event("streamvlm.source.opened", "streamvlm.source.ended")).type.endswith("ended"):
            await asyncio.sleep(0.1)
            await self._connection.send(opening)

    async def reach(self, time_s: float) -> None:
        """Waits until the stream has been watched up to a time."""
        while ((await self.event("streamvlm.stats")).time_s or 0.0) < time_s:
            pass

    async def over_websocket(self, question: str) -> Said:
        """Asks with the realtime client."""
        content: Any = {"type": "input_text", "text": question}
        await self._connection.conversation.item.create(item={"type": "message", "role": "user", "content": [content]})
        await self._connection.response.create()
        told = await self.event("streamvlm.response.evidence")
        response = (await self.event("response.done")).response
        assert response.status == "completed", response
        return _said(response.output[0].content[0].text, told.asked_at_s, told.evidence)

    async def over_http(self, question: str) -> Said:
        """Asks by chat completions, about the memory of the same session."""
        reply: Any = await self._client.chat.completions.create(
            model="pocket",
            messages=[{"role": "user", "content": question}],
            extra_body={"streamvlm": {"session": self._session_id}},
        )
        return _said(reply.choices[0].message.content, reply.streamvlm["asked_at_s"], reply.streamvlm["evidence"])

    async def event(self, *kinds: str) -> Any:
        """Returns the next event of these types; fails on an error, or if the source ends before."""
        async for event in self._connection:
            if event.type in kinds:
                return event
            assert event.type not in ("error", "streamvlm.source.ended"), event
        raise AssertionError(f"The connection ended before {kinds}.")


@asynccontextmanager
async def viewer(url: str) -> AsyncIterator[Viewer]:
    """Connects a viewer to a server."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    async with client, client.realtime.connect(model="pocket") as connection:
        opened = Viewer(client, connection)
        await opened.opt_in()
        yield opened


def _said(text: str, asked_at_s: float, evidence: list[dict[str, Any]]) -> Said:
    return Said(text, asked_at_s, [(seen["start_s"], seen["end_s"]) for seen in evidence])
