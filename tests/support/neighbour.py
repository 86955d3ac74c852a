"""Another client of the same server, which must not notice that others misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
from websocket_peer import Peer, as_jpeg, peer

from streamvlm.world.events import make_world
from streamvlm.world.render import render

QUESTION = "what do you see now?"
_PICTURE = as_jpeg(render(make_world(4_000_000, 30), 5.0))

T = TypeVar("T")


class Neighbour:
    """Sends the same picture every second of stream time, and each time asks what it is and expects the same answer.

    Args:
        url: Of the server.
        client: Its connection.
        headers: With its API key.

    Attributes:
        url: Of the server.
        session_id: Of its session.
        resume_token: Of that too.
        n_rounds: Pictures and answers so far.
    """

    def __init__(self, url: str, client: Peer, headers: dict[str, str]) -> None:
        self.url, self.session_id, self.resume_token, self.n_rounds = url, "", "", 0
        self._client, self._headers, self._answer = client, headers, ""

    async def settle(self) -> None:
        """Learns the answer, before others disturb."""
        told = await self._client.opt_in(binary_frames=True, events=["evidence"])
        self.session_id, self.resume_token = told["session_id"], told["resume_token"]
        self._answer = await self._round()

    async def work(self, until: asyncio.Event) -> None:
        """Goes on until the others are done."""
        while not until.is_set():
            assert await self._round() == self._answer

    async def check(self) -> None:
        """Checks that every picture was watched."""
        async with httpx2.AsyncClient(base_url=self.url, headers=self._headers, timeout=60) as client:
            told = (await client.get(f"/v1/sessions/{self.session_id}/timeline")).json()
        assert [decision["time_s"] for decision in told["decisions"]] == list(range(self.n_rounds))

    async def _round(self) -> str:
        time_s = float(self.n_rounds)
        await self._client.frame(self.n_rounds, _PICTURE, time_s)
        await self._client.send("response.create", response={"conversation": "none", "instructions": QUESTION})
        assert (await self._event("streamvlm.response.evidence"))["asked_at_s"] == time_s
        response = (await self._event("response.done"))["response"]
        assert response["status"] == "completed", response
        self.n_rounds += 1
        text: str = response["output"][0]["content"][0]["text"]
        return text

    async def _event(self, kind: str) -> dict[str, Any]:
        while (event := await self._client.receive())["type"] != kind:
            assert event["type"] != "error", event
        return event


async def beside_a_neighbour(url: str, misbehave: Callable[[Neighbour], Awaitable[T]], **options: Any) -> T:
    """Returns the result of misbehaving, repeated until a neighbour got an answer during it.

    Args:
        url: Of the server.
        misbehave: What a bad client does; it gets the neighbour.
        **options: How the neighbour connects.
    """
    async with asyncio.timeout(240), peer(url, **options) as client:
        neighbour = Neighbour(url, client, options.get("additional_headers", {}))
        await neighbour.settle()
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(neighbour.work(until=done))
            outcome = await misbehave(neighbour)
            while neighbour.n_rounds < 2:
                assert await misbehave(neighbour) == outcome
            done.set()
        await neighbour.check()
        return outcome
