"""`streamvlm serve` as a process: killed, and asked to stop."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest
from camera import Camera
from click.testing import CliRunner
from server_process import ServerProcess
from websocket_peer import LARGE, NOISE, as_jpeg, peer

from streamvlm.cli import main
from streamvlm.client import RemoteSession, connect
from streamvlm.world.events import make_world
from streamvlm_server.realtime.queues import MAX_WAITING_FRAMES

N_SESSIONS = 16
FLUSH_EVERY_S = 2.0


async def show(session: RemoteSession, *times_s: float) -> str:
    for time_s in times_s:
        await session.send(as_jpeg(NOISE), time_s=time_s)
    return (await session.ask("what do you see now?").whole()).text


def test_a_killed_server_is_come_back_to_and_a_stopped_one_says_so_and_exits_in_order(
    tmp_path: Path, device: str
) -> None:
    flags = ["--home", str(tmp_path), "--flush-every-s", "0.5", "--drain-s", "5"]

    async def use() -> None:
        async with AsyncExitStack() as opened:
            with ServerProcess(device, *flags) as server:
                session = await opened.enter_async_context(connect(server.url))
                text = await show(session, *(float(second) for second in range(10)))
                assert text
                server.process.kill()
            port = server.url.rpartition(":")[2]
            with await asyncio.to_thread(ServerProcess, device, *flags, "--port", port) as server:
                assert await show(session, 20.0) == text
                assert session.resumed_at_s is not None
                assert session.resumed_at_s >= 9 - 0.5 - 1  # what was promised, and a frame that was on its way
                assert (await session.ask("what do you see now?", at_s=5.0).whole()).asked_at_s == 5.0
                async with peer(server.url) as knowing, peer(server.url) as unknowing:
                    await knowing.opt_in()
                    await unknowing.receive("session.created")
                    server.process.send_signal(signal.SIGTERM)
                    assert (await knowing.receive())["type"] == "streamvlm.going_away"
                    assert [(await closed.closed())[0] for closed in (knowing, unknowing)] == [1012, 1012]
                assert await asyncio.to_thread(server.process.wait, 30) == 0

    asyncio.run(use())


def test_a_camera_that_sends_all_the_while_misses_nothing_of_a_stop_and_a_start(tmp_path: Path, device: str) -> None:
    flags = ["--home", str(tmp_path), "--frame-queue", "32"]
    picture = as_jpeg(LARGE)
    times_s = iter(range(1000))

    async def burst(session: RemoteSession) -> None:
        for second in islice(times_s, MAX_WAITING_FRAMES):
            await session.send(picture, time_s=float(second))

    async def use() -> None:
        going_away = asyncio.Event()

        def note(event: dict[str, Any]) -> None:
            if event["type"] == "streamvlm.going_away":
                going_away.set()

        with await asyncio.to_thread(ServerProcess, device, *flags) as server:
            async with connect(server.url, on_event=note) as session:
                await burst(session)
                reply = session.ask("what do you see now?")
                text = await anext(reply)
                await burst(session)
                server.process.send_signal(signal.SIGTERM)
                await going_away.wait()
                assert "".join([text, *[piece async for piece in reply]]) == reply.answer.text
                sending = asyncio.create_task(burst(session))
                asking = asyncio.create_task(session.ask("what do you see now?").whole())
                assert await asyncio.to_thread(server.process.wait) == 0
                port = server.url.rpartition(":")[2]
                with await asyncio.to_thread(ServerProcess, device, *flags, "--port", port) as again:
                    await sending
                    assert (await asking).text
                    assert (await session.ask("what do you see now?").whole()).asked_at_s == 3 * MAX_WAITING_FRAMES - 1
                    watched_s = await asyncio.to_thread(times_watched, again, session.session_id, -1.0)
                    assert watched_s == list(range(3 * MAX_WAITING_FRAMES))

    asyncio.run(use())


@pytest.mark.timeout(600)  # three starts, hundreds of pictures and questions
def test_sixteen_sessions_at_work_lose_to_a_kill_what_was_promised_and_to_a_stop_nothing(
    tmp_path: Path, device: str
) -> None:
    flags = ["--home", str(tmp_path), "--max-sessions", str(N_SESSIONS), "--flush-every-s", str(FLUSH_EVERY_S)]
    flags += ["--session-memory-budget", "32MiB", "--session-disk-budget", "64MiB", "--drain-s", "100"]

    async def use() -> None:
        cameras = [Camera(make_world(seed, 60), look_back_s=FLUSH_EVERY_S + 1) for seed in range(N_SESSIONS)]
        with await asyncio.to_thread(ServerProcess, device, *flags) as server:
            await at_work(cameras, server, until_s=12.0, n_pictures=4, then=signal.SIGKILL)
        assert any(camera.is_answered for camera in cameras), "questions were under way"
        assert len({text for camera in cameras for text in camera.looked_back.values()}) > 4, "each has its own world"
        assert_none_is_damaged(tmp_path)

        with await asyncio.to_thread(ServerProcess, device, *flags) as server:
            left_at_s = await asyncio.gather(*(as_it_was(camera, server) for camera in cameras))
            await at_work(cameras, server, until_s=12.0, n_pictures=6, then=signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait) == 0
        assert not any(camera.is_answered for camera in cameras), "what was under way has ended"
        assert_none_is_damaged(tmp_path)

        with await asyncio.to_thread(ServerProcess, device, *flags) as server:
            for camera, after_s in zip(cameras, left_at_s, strict=True):
                async with camera.connected(server.url) as (_, time_s):
                    assert time_s >= camera.acknowledged_s
                    watched_s = await asyncio.to_thread(times_watched, server, camera.session_id, after_s)
                    assert watched_s == [after_s + second for second in range(1, int(time_s - after_s) + 1)]

    asyncio.run(use())


async def at_work(
    cameras: list[Camera], server: ServerProcess, *, until_s: float, n_pictures: int, then: signal.Signals
) -> None:
    """Has all of them work, and sends the server a signal amid an answer, once each has shown so much of its world."""
    async with asyncio.TaskGroup() as tasks:
        for camera in cameras:
            tasks.create_task(camera.work(server.url, n_pictures=n_pictures))
        await asyncio.gather(*(camera.amid_an_answer(from_s=until_s) for camera in cameras))
        server.process.send_signal(then)


async def as_it_was(camera: Camera, server: ServerProcess) -> float:
    """Takes a session up again and asks it all that it was asked before; returns how far its memory reaches."""
    async with camera.connected(server.url) as (session, time_s):
        assert time_s >= camera.watched_s - FLUSH_EVERY_S
        assert {at_s: await camera.look_back(session, at_s) for at_s in camera.looked_back} == camera.looked_back
        return time_s


def times_watched(server: ServerProcess, session_id: str, after_s: float) -> list[float]:
    path = f"/v1/sessions/{session_id}/timeline"
    told = httpx2.get(server.url + path, params={"start_s": after_s}, timeout=60).json()
    return [decision["time_s"] for decision in told["decisions"] if decision["time_s"] > after_s]


def assert_none_is_damaged(home: Path) -> None:
    folders = [file.parent for file in home.glob("*/session.json")]
    assert len(folders) == N_SESSIONS
    for folder in folders:
        done = CliRunner().invoke(main, ["memory", "verify", str(folder)])
        assert done.exit_code == 0, done.output
        assert "blocks are whole, 0 are damaged" in done.output
    assert sum(file.stat().st_size for file in home.rglob("*")) < 1 << 30
