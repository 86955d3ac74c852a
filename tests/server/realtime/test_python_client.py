"""The Python client against a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fragile_network import fragile_network
from live_server import LiveServer
from websocket_peer import NOISE

from streamvlm.client import Alert, RemoteError, RemoteSession, connect
from streamvlm.client.link import address
from streamvlm.frame import Picture
from streamvlm.world.events import make_world
from streamvlm.world.render import render


def test_it_sends_pictures_and_gets_answers_with_what_they_rest_on(live: LiveServer, pictures: list[Picture]) -> None:
    async def use() -> None:
        told: list[dict[str, Any]] = []
        async with connect(live.url, events=["stats", "frame"], on_event=told.append) as session:
            for second, picture in enumerate(pictures):
                await session.send(picture, time_s=float(second))
            reply = session.ask("what do you see now?")
            pieces = [piece async for piece in reply]
            assert len(pieces) > 1
            assert "".join(pieces) == reply.answer.text
            assert reply.answer.status == "completed"
            assert reply.answer.asked_at_s == 39.0
            assert reply.answer.evidence[0].score > 0
            first, *others = await asyncio.gather(
                session.ask("what do you see now?").whole(),
                session.ask("what do you see now?", at_s=10.0).whole(),
                session.ask("did you see a dog?", out_of_band=True).whole(),
            )
            assert first.text == reply.answer.text
            assert [other.asked_at_s for other in others] == [10.0, 39.0]
            async with asyncio.timeout(30):
                while {"streamvlm.stats", "streamvlm.frame"} - {event["type"] for event in told}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    asyncio.run(use())


def test_what_the_server_refuses_is_raised_where_it_was_asked(live: LiveServer) -> None:
    async def use() -> None:
        async with connect(live.url) as session:
            with pytest.raises(RemoteError, match="Nothing has been seen") as refused:
                await session.ask("what do you see now?").whole()
            assert refused.value.code == "invalid_value"
            await session.send(NOISE)
            with pytest.raises(RemoteError, match="empty"):
                await session.ask(" ").whole()
            with pytest.raises(RemoteError, match="not below threshold"):
                await session.arm("is it red?", threshold=0.2, release=0.9)
            with pytest.raises(RemoteError, match="not read"):
                await session.open_source("file:///etc/passwd")
            assert (await session.ask("what do you see now?").whole()).text

    asyncio.run(use())


def test_a_server_that_is_not_there_or_refuses_is_told_in_a_sentence(live: LiveServer) -> None:
    async def use(url: str, **options: Any) -> str:
        with pytest.raises(RemoteError) as refused:
            async with connect(url, **options):
                pass
        return refused.value.code

    assert asyncio.run(use("ws://127.0.0.1:9")) == "unreachable"
    assert asyncio.run(use("127.0.0.1")) == "unreachable"
    assert asyncio.run(use(live.url, session_id="../secrets")) == "invalid_value"


@pytest.mark.parametrize("url", ["ws://host:1", "http://host:1/", "http://host:1/v1", "ws://host:1/v1/realtime"])
def test_a_server_may_be_named_in_several_ways(url: str) -> None:
    assert address(url, session_id="a b", resume=None) == "ws://host:1/v1/realtime?session_id=a+b"


def test_what_goes_wrong_at_the_caller_comes_out_as_it_is(live: LiveServer) -> None:
    async def use() -> None:
        async with connect(live.url):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(use())


def test_a_standing_question_fires_when_its_thing_appears_and_outlives_a_lost_connection(live: LiveServer) -> None:
    world = make_world(4_000_000, 60)
    shown = world.appearances[:2]

    async def use() -> list[Alert]:
        async with fragile_network(live.url) as network, connect(network.url) as session:
            armed = [await session.arm(f"did you see a {one.thing.name}?", every_s=0.5) for one in shown]
            await session.send(NOISE, time_s=0.0)
            await session.ask("what do you see now?").whole()
            network.cut()
            await asyncio.sleep(0.1)
            fired: list[Alert] = []
            listening = asyncio.create_task(take(session, fired))
            for half_second in range(1, round(2 * shown[-1].start_s) + 5):
                await session.send(render(world, half_second / 2), time_s=half_second / 2)
                if half_second % 8 == 0:
                    await session.ask("what do you see now?", out_of_band=True).whole()
            for standing_id in armed:
                await session.disarm(standing_id)
            listening.cancel()
            return fired

    async def take(session: RemoteSession, fired: list[Alert]) -> None:
        async for alert in session.alerts():
            fired.append(alert)

    fired = asyncio.run(use())
    in_time = [
        one.thing.name
        for one in shown
        for alert in fired
        if one.thing.name in alert.question and one.start_s <= alert.time_s <= one.start_s + 2
    ]
    assert in_time
    assert all(alert.probability >= 0.8 and alert.evidence for alert in fired)
