"""A client that sends a world to a session and asks about it, until its server is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from websocket_peer import Peer, as_jpeg, as_url, peer
from websockets.exceptions import ConnectionClosed

from streamvlm.world.events import World
from streamvlm.world.render import render


class Camera:
    """Sends some pictures, asks what is there now, asks about an earlier moment, and sends some more.

    Args:
        world: Its own; it sends a picture of it for every second of stream time.
        look_back_s: How long ago the earlier moment is.

    Attributes:
        session_id: Of its session, once it was connected.
        acknowledged_s: Stream time of the newest picture that the server acknowledged; -1 before the first.
        watched_s: Of the newest one that an answer has seen.
        looked_back: Answers about earlier moments, by the moment.
        is_answered: Whether an answer to it was begun and has not ended.
    """

    def __init__(self, world: World, *, look_back_s: float) -> None:
        self.session_id = ""
        self.acknowledged_s = self.watched_s = -1.0
        self.looked_back: dict[float, str] = {}
        self.is_answered = False
        self._world, self._look_back_s = world, look_back_s
        self._question = f"where was the {world.appearances[0].thing.name}?"
        self._token = ""
        self._is_amid = asyncio.Event()
        self._amid_from_s = 0.0

    @asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[tuple[Peer, float]]:
        """Opens its session, or resumes it by id and token; yields its stream time too."""
        query = f"?session_id={self.session_id}" if self.session_id else ""
        async with peer(url, query, additional_headers={"streamvlm-resume-token": self._token}) as server:
            told = await server.opt_in()
            self.session_id, self._token = told["session_id"], told["resume_token"]
            yield server, -1.0 if told["time_s"] is None else float(told["time_s"])

    async def work(self, url: str, *, n_pictures: int) -> None:
        """Goes on where its session is, ``n_pictures`` a round, until the connection is lost."""
        with suppress(ConnectionClosed):
            async with self.connected(url) as (server, time_s):
                while True:
                    for _ in range(n_pictures):
                        time_s += 1.0
                        await self._show(server, time_s)
                    await self._ask(server, "what do you see now?")
                    self.watched_s = time_s
                    at_s = time_s - self._look_back_s
                    self.looked_back[at_s] = await self.look_back(server, at_s)

    async def look_back(self, server: Peer, at_s: float) -> str:
        """Asks about an earlier moment."""
        return await self._ask(server, self._question, at_s)

    async def amid_an_answer(self, *, from_s: float) -> None:
        """Returns while it waits for the end of an answer, when its server has taken pictures up to that time."""
        self._amid_from_s = from_s
        self._is_amid.clear()
        await self._is_amid.wait()

    async def _show(self, server: Peer, time_s: float) -> None:
        picture = {"type": "input_image", "image_url": as_url(as_jpeg(render(self._world, time_s)))}
        item = {"type": "message", "role": "user", "content": [picture], "streamvlm": {"time_s": time_s}}
        await server.send("conversation.item.create", item=item)
        await server.receive("conversation.item.done")
        self.acknowledged_s = time_s

    async def _ask(self, server: Peer, question: str, at_s: float | None = None) -> str:
        asked = {"conversation": "none", "instructions": question, "streamvlm": {"at_s": at_s}}
        await server.send("response.create", response=asked)
        await server.receive("response.created")
        self.is_answered = True
        if self.acknowledged_s >= self._amid_from_s:
            self._is_amid.set()
        text = await server.answer()
        self.is_answered = False
        return text
