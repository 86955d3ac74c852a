"""What was acknowledged is seen: pictures that come as items wait for room, and their sender with them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from live_server import LiveServer, live_server, wait_until
from standing_still import standing_still
from websocket_peer import NOISE, Peer, as_jpeg, as_png, as_url, peer
from websockets.exceptions import ConnectionClosed

from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.session import Session
from streamvlm_server.hosting.slow_reader_timeout import SlowReaderTimeoutProtocol
from streamvlm_server.realtime import connection
from streamvlm_server.realtime.queues import MAX_WAITING_MESSAGES
from streamvlm_server.serve import engine_config
from streamvlm_server.session_leases import TAKEN_OVER

N_PICTURES = 90
QUEUE = 4
N_MANY = MAX_WAITING_MESSAGES + 40
"""More than all of a server takes in before it stops reading."""
NOISE_URL = as_url(as_png(NOISE))


@pytest.fixture(scope="module")
def narrow(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server in which few frames wait."""
    with live_server(pocket, home=tmp_path_factory.mktemp("home"), frame_queue=QUEUE, linger_s=30.0) as running:
        yield running


def shown(*urls: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_image", "image_url": url} for url in urls]
    return {"type": "message", "role": "user", "content": content, **fields}


def session_of(server: LiveServer, session_id: str) -> LiveSession:
    return server.engine.find(session_id)


def watched_s(session: LiveSession) -> list[float]:
    """When the frames were that were watched, once none waits."""
    wait_until(lambda: not session.scheduled.has_work)
    assert session.stats().n_dropped == 0
    return [decision.time_s for decision in session.timeline().decisions]


async def send_items(client: Peer, *items: dict[str, Any]) -> None:
    for item in items:
        await client.send("conversation.item.create", item=item)


async def count_done(client: Peer) -> int:
    """How many items are acknowledged up to the end of the connection."""
    n_done = 0
    with suppress(ConnectionClosed):
        while True:
            n_done += (await client.receive())["type"] == "conversation.item.done"
    return n_done


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_burst_of_pictures_of_the_official_package_is_acknowledged_and_watched_whole(
    narrow: LiveServer, is_slow: bool
) -> None:
    async def use() -> tuple[str, list[str], str]:
        client = openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key="none")
        async with client, client.realtime.connect(model="pocket") as connected:
            created: Any = await connected.recv()

            async def send() -> None:
                for number in range(N_PICTURES):
                    item: Any = shown(NOISE_URL, id=f"shown_{number}")
                    await connected.conversation.item.create(item=item)
                await connected.response.create(response={"instructions": "what do you see now?"})

            async with asyncio.TaskGroup() as sending:
                task = sending.create_task(send())
                if is_slow:
                    with standing_still(narrow.engine):
                        await asyncio.sleep(0.2)
                        assert session_of(narrow, created.session.id).stats().n_offered == QUEUE
                        assert session_of(narrow, created.session.id).stats().n_waiting == QUEUE
                await task
                done, response = [], None
                while response is None:
                    event: Any = await connected.recv()
                    assert event.type != "error", event
                    if event.type == "conversation.item.done" and event.item.role == "user":
                        done.append(event.item.id)
                    if event.type == "response.done":
                        response = event.response
            return created.session.id, done, response.status

    session_id, done, status = asyncio.run(use())
    assert done == [f"shown_{number}" for number in range(N_PICTURES)]
    assert status == "completed"
    assert len(watched_s(session_of(narrow, session_id))) == N_PICTURES


def test_questions_behind_a_burst_are_answered_as_the_library_answers_about_all_of_it(
    narrow: LiveServer, pocket: VideoLanguageModel, pictures: list[Picture], pngs: list[bytes]
) -> None:
    right = Session(pocket)
    right.observe([Frame(second, float(second), picture) for second, picture in enumerate(pictures)])
    questions = ("what do you see now?", "where was the orange heart?", "and when was that?")

    async def use() -> list[str]:
        async with peer(narrow.url) as client:
            await client.opt_in()
            await send_items(client, *(shown(as_url(png), streamvlm={"time_s": s * 1.0}) for s, png in enumerate(pngs)))
            return [await client.ask(question) for question in questions]

    assert asyncio.run(use()) == [right.ask(question).answer.text for question in questions]


def test_all_pictures_of_an_item_are_watched_though_fewer_may_wait(narrow: LiveServer) -> None:
    async def use() -> str:
        async with peer(narrow.url) as client:
            session_id: str = (await client.opt_in())["session_id"]
            await send_items(client, *[shown(*[NOISE_URL] * 3 * QUEUE)] * 3)
            for _ in range(3):
                await client.receive("conversation.item.done")
            return session_id

    assert len(watched_s(session_of(narrow, asyncio.run(use())))) == 9 * QUEUE


def test_pictures_of_an_item_that_are_too_large_together_are_refused_and_one_that_is_no_picture_is_named(
    pocket: VideoLanguageModel,
) -> None:
    async def use(url: str) -> list[tuple[str, str | None]]:
        async with peer(url) as client:
            await send_items(client, shown(*[NOISE_URL] * 3), shown(NOISE_URL, "data:image/png;base64,####"))
            await send_items(client, shown("https://a.example/b.png"), shown(NOISE_URL))
            errors = [(await client.receive("error"))["error"] for _ in range(3)]
            await client.receive("conversation.item.done")
            return [(error["code"], error["param"]) for error in errors]

    with live_server(pocket, max_picture_px=2 * NOISE.shape[0] * NOISE.shape[1]) as server:
        assert asyncio.run(use(server.url)) == [
            ("too_large", None),
            ("invalid_base64_image", "item.content.1.image_url"),
            ("invalid_image_url", "item.content.0.image_url"),
        ]
        assert server.engine.stats().n_frames <= 1


def test_frames_that_give_way_push_no_item_out(narrow: LiveServer) -> None:
    async def use() -> str:
        async with peer(narrow.url) as client:
            session_id: str = (await client.opt_in(binary_frames=True))["session_id"]
            with standing_still(narrow.engine):
                await send_items(client, *(shown(NOISE_URL, streamvlm={"time_s": float(n)}) for n in range(QUEUE)))
                for _ in range(QUEUE):
                    await client.receive("conversation.item.done")
                for number in range(QUEUE, 50):
                    await client.frame(number, as_jpeg(NOISE), float(number))
                await client.send("response.cancel")  # behind the frames, and so told when they have come
                await client.send("session.update", session={"type": "realtime"})
                await client.receive("session.updated")
            return session_id

    session = session_of(narrow, asyncio.run(use()))
    wait_until(lambda: not session.scheduled.has_work)
    times_s = [decision.time_s for decision in session.timeline().decisions]
    assert times_s[:QUEUE] == list(range(QUEUE))
    assert times_s[-1] == 49
    assert session.stats().n_dropped > 0


@pytest.mark.parametrize("manner", ["closes", "is cut off"])
def test_what_a_client_sent_that_leaves_is_watched_whole(narrow: LiveServer, manner: str) -> None:
    async def use() -> str:
        async with peer(narrow.url) as client:
            session_id: str = (await client.opt_in())["session_id"]
            with standing_still(narrow.engine):
                await send_items(client, *[shown(NOISE_URL)] * 30)
                for _ in range(QUEUE):
                    await client.receive("conversation.item.done")
                if manner == "closes":
                    closing = asyncio.create_task(client.socket.close())
                    await asyncio.sleep(0)
                else:
                    client.socket.transport.abort()
            if manner == "closes":
                await closing
            return session_id

    session = session_of(narrow, asyncio.run(use()))
    wait_until(lambda: narrow.service.drain.n_running == 0)
    n_watched = len(watched_s(session))
    assert n_watched == session.stats().n_offered
    assert n_watched == 30 if manner == "closes" else QUEUE <= n_watched <= 30


def test_a_stop_amid_a_burst_loses_nothing_that_was_acknowledged(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    async def use(server: LiveServer) -> tuple[str, int, int]:
        async with peer(server.url) as client:
            created = await client.receive("session.created")
            with standing_still(server.engine):
                await send_items(client, *[shown(NOISE_URL)] * 40)
                await client.receive("conversation.item.done")
                server.server.stop()
                await asyncio.to_thread(wait_until, lambda: server.service.drain.is_draining)
            n_done = 1 + await count_done(client)
            return created["session"]["id"], n_done, client.socket.close_code or 0

    with live_server(pocket, home=tmp_path, frame_queue=QUEUE) as server:
        session_id, n_done, code = asyncio.run(use(server))
        config = server.service.config
    assert code == 1012
    with Engine(pocket, engine_config(config)) as engine:
        assert len(engine.find(session_id).timeline().decisions) == n_done == 40


def test_who_takes_a_session_up_amid_a_burst_finds_what_was_acknowledged_before(narrow: LiveServer) -> None:
    async def use() -> tuple[str, int]:
        async with peer(narrow.url) as older:
            told = await older.opt_in()
            query = f"?session_id={told['session_id']}"
            headers = {"streamvlm-resume-token": told["resume_token"]}
            await send_items(older, *[shown(NOISE_URL)] * 20)
            await older.receive("conversation.item.done")
            async with peer(narrow.url, query, additional_headers=headers) as newer:
                await newer.receive("session.created")
                await send_items(newer, *[shown(NOISE_URL)] * 20)
                for _ in range(20):
                    await newer.receive("conversation.item.done")
                n_done = 1 + await count_done(older)
                assert older.socket.close_reason == TAKEN_OVER
            return told["session_id"], n_done + 20

    session_id, n_done = asyncio.run(use())
    assert (
        len(watched_s(session_of(narrow, session_id))) == n_done
    )  # 40, where the older one's come within its last 5 s
    assert n_done > 20


def test_a_client_whose_pictures_wait_is_neither_idle_nor_gone(
    pocket: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TICK_S", 0.02)

    def ping_every(served: SlowReaderTimeoutProtocol, every_s: float) -> None:
        served.stop_keepalive()
        served.ping_interval = served.ping_timeout = every_s
        served.start_keepalive()

    async def use(server: LiveServer) -> str:
        async with peer(server.url, ping_interval=None) as client:
            session_id: str = (await client.receive("session.created"))["session"]["id"]
            (served,) = server.server.server_state.connections
            assert isinstance(served, SlowReaderTimeoutProtocol)
            with standing_still(server.engine):
                sending = asyncio.create_task(send_items(client, *[shown(NOISE_URL)] * N_MANY))
                while session_of(server, session_id).stats().n_waiting < QUEUE or not served.read_paused:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                for every_s in (0.02, 60.0):  # amid the standstill alone, or the machine's pace would count
                    served.loop.call_soon_threadsafe(ping_every, served, every_s)
                    await asyncio.sleep(0.2)
            await sending
            for _ in range(N_MANY):
                await client.receive("conversation.item.done")
            return session_id

    with live_server(pocket, frame_queue=QUEUE, idle_s=0.1) as server:
        assert len(watched_s(session_of(server, asyncio.run(use(server))))) == N_MANY


def test_breaking_an_answer_off_waits_for_no_picture(narrow: LiveServer) -> None:
    async def use() -> None:
        async with peer(narrow.url) as client:
            session = session_of(narrow, (await client.opt_in())["session_id"])
            with standing_still(narrow.engine):
                await send_items(client, shown(NOISE_URL))
                await client.send("response.create", response={"instructions": "what do you see now?"})
                await client.receive("response.created")
                await send_items(client, *[shown(NOISE_URL)] * 30)
                await client.send("response.cancel")
                await asyncio.to_thread(wait_until, lambda: session.scheduled.questions[0].is_cancelled)
                assert session.stats().n_offered == QUEUE
            assert (await client.receive("response.done"))["response"]["status"] == "cancelled"

    asyncio.run(use())


def test_pictures_beyond_what_a_key_allows_come_later_and_none_is_dropped(
    pocket: VideoLanguageModel, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    sha256 = hashlib.sha256(b"ann").hexdigest()
    keys.write_text(f'[[keys]]\nowner = "ann"\nsha256 = "{sha256}"\nframes_per_s = 20\n')
    ann = {"Authorization": "Bearer ann"}

    async def use(url: str) -> int:
        async with peer(url, additional_headers=ann) as client:
            session_id = (await client.opt_in(events=["stats"]))["session_id"]
            await send_items(client, *[shown(NOISE_URL)] * 46)  # 40 at once, and the others one after another
            for _ in range(46):
                await client.receive("conversation.item.done")
            await client.ask("what do you see now?")
            told = httpx2.get(f"{url}/v1/sessions/{session_id}/timeline", headers=ann).json()
            return len(told["decisions"])

    with live_server(pocket, keys_file=keys) as server:
        assert asyncio.run(use(server.url)) == 46
