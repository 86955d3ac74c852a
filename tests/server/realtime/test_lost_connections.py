"""The Python client when connections are lost, servers stop or say nothing, and callers give up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fragile_network import FragileNetwork, fragile_network
from live_server import LiveServer, live_server, wait_until
from web_site import serving
from websocket_peer import LARGE, NOISE, as_jpeg
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve

from streamvlm.client import RemoteError, RemoteSession, connect
from streamvlm.client.pending import Pending
from streamvlm.client.reply import Reply
from streamvlm.models.base import VideoLanguageModel

LARGE_JPEG = as_jpeg(LARGE)


@asynccontextmanager
async def over_a_fragile_network(
    live: LiveServer, **options: Any
) -> AsyncIterator[tuple[RemoteSession, FragileNetwork]]:
    async with fragile_network(live.url) as network, connect(network.url, **options) as session:
        await session.send(NOISE, time_s=0.0)
        await session.ask("what do you see now?").whole()
        yield session, network


def test_a_lost_connection_is_found_again_with_the_same_memory(live: LiveServer) -> None:
    async def use() -> None:
        async with over_a_fragile_network(live) as (session, network):
            session_id = session.session_id
            network.cut()
            await asyncio.sleep(0.1)
            await session.send(NOISE, time_s=1.0)
            answer = await session.ask("what do you see now?").whole()
            assert (session.session_id, session.resumed_at_s, answer.asked_at_s) == (session_id, 0.0, 1.0)

    asyncio.run(use())


def test_a_question_under_way_when_the_connection_is_lost_fails_and_the_next_does_not(live: LiveServer) -> None:
    async def use() -> None:
        async with over_a_fragile_network(live) as (session, network):
            network.passes.clear()
            asking = asyncio.create_task(session.ask("what do you see now?").whole())
            await asyncio.sleep(0.1)
            network.cut()
            with pytest.raises(RemoteError) as lost:
                await asking
            assert lost.value.code == "connection_lost"
            network.passes.set()
            assert (await session.ask("what do you see now?").whole()).text

    asyncio.run(use())


def test_who_does_not_want_to_reconnect_is_told_at_once(live: LiveServer) -> None:
    async def use() -> None:
        async with over_a_fragile_network(live, reconnect_s=0) as (session, network):
            network.cut()
            with pytest.raises(RemoteError):
                async for _ in session.alerts():
                    pass
            with pytest.raises(RemoteError, match="lost"):
                await session.send(NOISE)

    asyncio.run(use())


def test_a_question_too_late_for_a_server_that_stops_is_asked_of_the_next(
    pocket: VideoLanguageModel, tmp_path: Path
) -> None:
    ended: list[str] = []

    async def ask(session: RemoteSession, name: str, *, out_of_band: bool = False) -> None:
        await session.ask("what do you see now?", out_of_band=out_of_band).whole()
        ended.append(name)

    async def use() -> None:
        with ExitStack() as first, ExitStack() as second:
            server = await asyncio.to_thread(first.enter_context, live_server(pocket, home=tmp_path))
            async with (
                fragile_network(server.url) as network,
                connect(network.url) as session,
                connect(network.url, reconnect_s=0) as impatient,
            ):
                for one in (session, impatient):
                    await one.send(NOISE, time_s=0.0)
                    await ask(one, "before")
                network.passes.clear()
                async with asyncio.TaskGroup() as asking:
                    refused = asyncio.create_task(impatient.ask("what do you see now?").whole())
                    for name in ("in its turn", "after it"):
                        asking.create_task(ask(session, name))
                    asking.create_task(ask(session, "out of band", out_of_band=True))
                    await asyncio.sleep(0.1)
                    server.server.stop()
                    await asyncio.to_thread(wait_until, lambda: server.service.drain.is_draining)
                    network.passes.set()
                    with pytest.raises(RemoteError) as too_late:
                        await refused
                    assert too_late.value.code == "going_away"
                    await asyncio.to_thread(first.close)
                    port = int(server.url.rpartition(":")[2])
                    again = live_server(pocket, home=tmp_path, port=port)
                    await asyncio.to_thread(second.enter_context, again)
                assert sorted(ended[2:]) == ["after it", "in its turn", "out of band"]
                assert ended.index("in its turn") < ended.index("after it")

    asyncio.run(use())


def test_what_failed_goes_on_failing_alike(live: LiveServer) -> None:
    async def use() -> None:
        async with connect(live.url) as session:
            refused = session.ask("what do you see now?")
            for _ in range(2):
                with pytest.raises(RemoteError, match="Nothing has been seen"):
                    await anext(refused)
            with pytest.raises(RemoteError, match="Nothing has been seen"):
                assert refused.answer
        async with over_a_fragile_network(live, reconnect_s=0) as (session, network):
            network.cut()
            with pytest.raises(RemoteError):
                await anext(session.alerts())
            unsent = session.ask("what do you see now?")
            for _ in range(2):
                with pytest.raises(RemoteError, match="lost"):
                    await unsent.whole()

    asyncio.run(use())


def test_an_answer_whose_breaking_off_is_lost_with_its_connection_is_no_failure_of_its_own() -> None:
    lost = RemoteError("The connection is lost.", code="connection_lost")

    async def begin() -> None:
        pass

    async def cancel(response_id: str) -> None:
        raise lost

    async def use() -> None:
        reply = Reply(begin, cancel, lambda: None)
        await reply.cancel()
        await reply.feed({"type": "response.created", "response": {"id": "resp_1"}})
        reply.fail(lost)
        with pytest.raises(RemoteError, match="lost"):
            await reply.whole()

    asyncio.run(use())


def test_who_gives_up_waiting_takes_no_answer_from_others_and_arms_nothing_again(live: LiveServer) -> None:
    async def give_up(session: RemoteSession, **settings: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.arm("is it red?", **settings), 0.05)

    async def use() -> None:
        async with over_a_fragile_network(live) as (session, network), asyncio.timeout(60):
            here = live.engine.find(session.session_id)
            network.passes.clear()
            await give_up(session, threshold=0.2, release=0.9)  # will be refused
            await give_up(session)
            arming = asyncio.create_task(session.arm("is it blue?"))
            await asyncio.sleep(0.1)
            network.passes.set()
            blue = await arming
            assert [armed.question for armed in here.standing().values()] == ["is it red?", "is it blue?"]
            await session.disarm(blue)
            ((red, armed),) = here.standing().items()
            assert armed.question == "is it red?"
            here.disarm(red)
            await session.arm("is it green?")
            network.cut()
            await asyncio.sleep(0.1)
            await session.arm("is it grey?")  # armed in the order in which they were told
            assert [armed.question for armed in here.standing().values()] == ["is it green?", "is it grey?"]

    asyncio.run(use())


def test_a_question_that_is_given_up_on_a_slow_network_is_whole_and_no_part_of_the_next(live: LiveServer) -> None:
    async def use() -> None:
        async with over_a_fragile_network(live) as (session, network), asyncio.timeout(60):
            n_before = live.engine.stats().n_answers
            network.passes.clear()
            async with asyncio.TaskGroup() as sending:
                for second in range(1, 33):  # more than sockets and relay hold
                    sending.create_task(session.send(LARGE_JPEG, time_s=float(second)))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(session.ask("did you see a dog?").whole(), 0.2)
                network.passes.set()
            assert (await session.ask("what do you see now?").whole()).text
            assert live.engine.stats().n_answers == n_before + 2

    asyncio.run(use())


def test_who_still_waits_when_the_session_is_left_is_told(live: LiveServer) -> None:
    async def use() -> None:
        async with over_a_fragile_network(live) as (session, network):
            network.passes.clear()
            waiting = [
                asyncio.create_task(session.ask("what do you see now?").whole()),
                asyncio.create_task(session.ask("what do you see now?").whole()),
                asyncio.create_task(session.arm("is it red?")),
                asyncio.create_task(anext(session.alerts())),
            ]
            await asyncio.sleep(0.1)
            network.cut()
        waiting.append(asyncio.create_task(session.send(NOISE)))
        async with asyncio.timeout(60):
            told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in told} == {RemoteError}
        assert "The session was left." in str(told[-1])

    asyncio.run(use())


def test_what_goes_wrong_in_on_event_comes_out_and_nobody_waits_for_what_nobody_hears(live: LiveServer) -> None:
    def refuse(event: dict[str, Any]) -> None:
        raise KeyError("mine")

    async def use() -> None:
        async with asyncio.timeout(60), connect(live.url, on_event=refuse) as session:
            await session.arm("is it red?")
            with pytest.raises(RemoteError, match="left"):
                await anext(session.alerts())

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(use())


def test_a_source_that_was_given_up_before_it_opened_can_be_closed(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    answers = threading.Event()

    def answer_late() -> bytes:
        answers.wait()
        return b""

    async def use(server: LiveServer, url: str) -> None:
        async with connect(server.url) as session, asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.open_source(url), 0.1)
            closing = asyncio.create_task(session.close_source())
            await asyncio.sleep(0.1)
            answers.set()
            await closing

    allowed = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"]}
    with serving("127.0.0.1", tmp_path) as site, live_server(pocket, **allowed) as server:
        site.answers["/late.mp4"] = answer_late
        asyncio.run(use(server, f"http://{site.host}/late.mp4"))


def test_what_was_given_up_is_waited_for_by_nobody_and_a_source_that_ends_fails_no_later_one() -> None:
    async def use() -> None:
        pending = Pending()
        pending.expect("first", "streamvlm.source.opened").cancel()
        assert not pending.is_waited_for
        pending.take({"type": "streamvlm.source.opened", "url": "a"})
        second = pending.expect("second", "streamvlm.source.opened")
        pending.take({"type": "streamvlm.source.ended", "url": "a", "error": None})
        assert pending.is_waited_for
        pending.take({"type": "streamvlm.source.opened", "url": "b"})
        assert (await second)["url"] == "b"
        third = pending.expect("third", "streamvlm.source.opened")
        pending.fail(RemoteError("The connection is lost.", code="connection_lost"))
        with pytest.raises(RemoteError, match="lost"):
            await third

    asyncio.run(use())


def test_a_frame_that_learns_late_of_a_lost_connection_does_not_shut_the_next(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = ClientConnection.send
    held: list[bytes] = []

    async def use() -> None:
        stands_again = asyncio.Event()

        async def send_late(socket: ClientConnection, message: Any) -> None:
            if isinstance(message, bytes) and not held:
                held.append(message)
                await stands_again.wait()
            await send(socket, message)

        async with over_a_fragile_network(live) as (session, network), asyncio.timeout(60):
            monkeypatch.setattr(ClientConnection, "send", send_late)
            sending = asyncio.create_task(session.send(NOISE, time_s=1.0))
            while not held:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            network.cut()
            await asyncio.sleep(0.1)
            await session.ask("what do you see now?").whole()
            stands_again.set()
            await sending
            assert (await session.ask("what do you see now?").whole()).asked_at_s == 1.0

    asyncio.run(use())


@asynccontextmanager
async def mute_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Takes a connection, and says nothing; the event is set when the connection has ended."""
    ended = asyncio.Event()

    async def say_nothing(client: ServerConnection) -> None:
        await client.wait_closed()
        ended.set()

    async with serve(say_nothing, "127.0.0.1", 0) as listening:
        (socket,) = listening.sockets
        yield f"ws://127.0.0.1:{socket.getsockname()[1]}", ended


def test_a_server_that_says_nothing_is_given_up_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        async with mute_server() as (url, ended), asyncio.timeout(60):
            with pytest.raises(RemoteError, match=r"did not tell of a session within 0\.1 s; check") as mute:
                async with connect(url):
                    pass
            assert mute.value.code == "unreachable"
            await ended.wait()

    monkeypatch.setattr("streamvlm.client.link._GREETED_WITHIN_S", 0.1)
    asyncio.run(use())


def test_who_gives_up_connecting_leaves_no_connection_behind() -> None:
    async def use() -> None:
        async with mute_server() as (url, ended), asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), connect(url):
                    pass
            await ended.wait()

    asyncio.run(use())
