"""Sessions outlive their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, live_server, wait_until
from websocket_peer import LARGE, NOISE, Peer, as_jpeg, peer

from streamvlm.models.base import VideoLanguageModel


@pytest.fixture(scope="module")
def small(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with two places, where a session lingers for long."""
    with live_server(pocket, home=tmp_path_factory.mktemp("small"), max_sessions=2, linger_s=60.0) as running:
        yield running


def token(value: str) -> dict[str, dict[str, str]]:
    return {"additional_headers": {"streamvlm-resume-token": value}}


async def show(client: Peer, *times_s: float) -> dict[str, str]:
    """Shows a picture at these times, waits until they are taken in, and returns what the session is told of itself."""
    told = await client.opt_in(binary_frames=True)
    for time_s in times_s:
        await client.frame(0, as_jpeg(NOISE), time_s)
    await client.ask("what do you see now?")
    return told


def test_a_session_is_taken_up_again_by_id_and_token(small: LiveServer) -> None:
    async def leave_and_come_back() -> float:
        async with peer(small.url) as client:
            told = await show(client, 0.0, 1.0, 2.0)
        async with peer(small.url, f"?session_id={told['session_id']}", **token(told["resume_token"])) as client:
            again = await client.opt_in()
            assert (again["session_id"], again["resume_token"]) == (told["session_id"], told["resume_token"])
            await client.ask("what do you see now?")
            return float(again["time_s"])

    assert asyncio.run(leave_and_come_back()) == 2.0


def test_a_client_may_name_its_session_and_put_the_token_among_the_subprotocols(small: LiveServer) -> None:
    async def browser() -> None:
        async with peer(small.url, "?session_id=front-door") as client:
            told = await show(client, 0.0)
            assert told["session_id"] == "front-door"
        offered = ["realtime", f"streamvlm-resume-token.{told['resume_token']}"]
        async with peer(small.url, "?session_id=front-door", subprotocols=offered) as client:
            assert (await client.receive())["session"]["id"] == "front-door"

    asyncio.run(browser())


def test_the_newest_connection_has_the_session_and_the_older_is_told(small: LiveServer) -> None:
    async def twice() -> tuple[int, str]:
        async with peer(small.url) as first:
            told = await show(first, 0.0)
            where = f"?session_id={told['session_id']}"
            async with peer(small.url, where, **token(told["resume_token"])) as second:
                ended = await first.closed()
                assert await show(second, 1.0)
            return ended

    code, reason = asyncio.run(twice())
    assert code == 1008
    assert "taken the session up" in reason


def test_of_three_connections_that_want_a_session_at_once_one_has_it_and_two_are_told(small: LiveServer) -> None:
    async def thrice() -> list[str]:
        async with peer(small.url) as first:
            told = await show(first, 0.0)
            for number in range(1, 8):
                await first.frame(number, as_jpeg(LARGE), float(number))  # keep it from leaving at once
            where = f"?session_id={told['session_id']}"
            again = [peer(small.url, where, **token(told["resume_token"])) for _ in range(2)]
            async with again[0] as second, again[1] as third:
                heard = await asyncio.gather(second.receive(), third.receive())
                await first.closed()
                return sorted(event.get("error", {}).get("code", event["type"]) for event in heard)

    assert asyncio.run(thrice()) == ["session.created", "session_refused"]


@pytest.mark.parametrize("is_taken_over", [False, True], ids=["it leaves", "another takes the session up"])
def test_what_a_client_sent_before_its_end_is_watched(small: LiveServer, *, is_taken_over: bool) -> None:
    large = as_jpeg(LARGE)
    name = f"sent-{is_taken_over}"

    async def send_and_end() -> list[float]:
        async with peer(small.url, f"?session_id={name}") as client:
            told = await show(client, 0.0)
            for second in range(1, 8):
                await client.frame(second, large, float(second))
            if is_taken_over:
                await (await client.socket.ping())  # what was sent before it has been read, what it says of it or not
            else:
                await client.socket.close()
            async with peer(small.url, f"?session_id={name}", **token(told["resume_token"])) as again:
                await again.ask("what do you see now?")
        timeline = await asyncio.to_thread(small.engine.find(name).timeline)
        return [decision.time_s for decision in timeline.decisions]

    assert asyncio.run(send_and_end()) == list(range(8))


def test_where_all_places_are_taken_who_left_first_gives_way_and_loses_nothing(small: LiveServer) -> None:
    async def crowd() -> None:
        tokens = {}
        for name in ("one", "two", "three"):
            async with peer(small.url, f"?session_id={name}") as client:
                tokens[name] = (await show(client, 0.0, 1.0))["resume_token"]
        open_now = {info.id for info in small.engine.sessions() if info.is_open}
        assert open_now == {"two", "three"}
        async with peer(small.url, "?session_id=one", **token(tokens["one"])) as client:
            assert (await client.opt_in())["time_s"] == 1.0

    asyncio.run(crowd())


def test_where_everybody_is_there_one_more_is_told_to_try_later(small: LiveServer) -> None:
    async def crowd() -> tuple[str, int]:
        async with peer(small.url) as one, peer(small.url) as two:
            await show(one, 0.0)
            await show(two, 0.0)
            async with peer(small.url) as three:
                code: str = (await three.receive())["error"]["code"]
                close_code, _ = await three.closed()
                return code, close_code

    assert asyncio.run(crowd()) == ("model_overloaded", 1013)


def test_a_session_that_was_shown_nothing_leaves_nothing(small: LiveServer) -> None:
    async def knock() -> None:
        async with peer(small.url, "?session_id=knock") as client:
            await client.receive("session.created")

    asyncio.run(knock())
    wait_until(lambda: "knock" not in {info.id for info in small.engine.sessions()})


def test_a_session_that_nobody_comes_back_to_is_closed_and_rests_on_disk(live: LiveServer) -> None:
    async def leave() -> None:
        async with peer(live.url, "?session_id=left") as client:
            await show(client, 0.0)
        async with asyncio.timeout(30):
            while "left" in {info.id for info in live.engine.sessions() if info.is_open}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert "left" in {info.id for info in live.engine.sessions()}


def test_a_session_whose_folder_vanishes_is_told_so_and_goes_on(live: LiveServer, tmp_path: Path) -> None:
    async def lose() -> tuple[str, str]:
        async with peer(live.url, "?session_id=vanishing") as client:
            await show(client, 0.0)
            assert live.service.config.home is not None
            (live.service.config.home / "vanishing").rename(tmp_path / "elsewhere")
            await show(client, 40.0)
            live.engine.find("vanishing").scheduled.session.flush()
            return (await client.receive("streamvlm.notice"))["message"], await client.ask("what do you see now?")

    message, answer = asyncio.run(lose())
    assert "can no longer be written" in message
    assert answer


def test_a_stopping_server_says_so_lets_answers_end_and_closes_to_be_called_again(
    pocket: VideoLanguageModel,
) -> None:
    with live_server(pocket) as running:

        async def watch() -> tuple[str, int]:
            async with peer(running.url) as knowing, peer(running.url) as unknowing:
                await show(knowing, 0.0)
                await unknowing.receive("session.created")
                running.server.stop()
                notice = await knowing.receive()
                codes = [await knowing.closed(), await unknowing.closed()]
                assert [code for code, _ in codes] == [1012, 1012]
                return notice["type"], codes[0][0]

        assert asyncio.run(watch()) == ("streamvlm.going_away", 1012)
