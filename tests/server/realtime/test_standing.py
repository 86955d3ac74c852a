"""Standing questions belong to a session: they are asked on while nobody is there, and after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from fragile_network import fragile_network
from live_server import LiveServer, live_server, wait_until
from server_process import ServerProcess
from web_site import serving
from websocket_peer import Peer, as_png, peer

from streamvlm.cli import main
from streamvlm.client import connect
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.standing_question import StandingQuestion
from streamvlm.world.events import World, make_world
from streamvlm.world.render import render
from streamvlm.world.video import write_video

HERE: dict[str, Any] = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"]}
WORLD: World = replace(make_world(4_000_000, 30), duration_s=17)  # an orange heart at 4 s, an orange star at 14 s


def coming_back(told: dict[str, Any]) -> dict[str, Any]:
    return {"additional_headers": {"streamvlm-resume-token": told["resume_token"]}}


async def fired(client: Peer) -> dict[str, Any]:
    return await client.receive("streamvlm.standing.fired")


def test_what_fires_while_nobody_is_there_is_told_to_who_comes_back(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    write_video(WORLD, tmp_path / "clip.mp4")

    async def leave(server: LiveServer, source: str) -> dict[str, Any]:
        async with peer(server.url, "?session_id=door") as client:
            told = await client.opt_in()
            await client.send("streamvlm.standing.arm", question="did you see an orange heart?")
            await client.receive("streamvlm.standing.armed")
            await client.send("streamvlm.standing.arm", question="did you see an orange star?")
            await client.receive("streamvlm.standing.armed")
            await client.send("streamvlm.source.open", url=source, fps=2.0)
            await client.receive("streamvlm.source.opened")
            return told

    async def come_back(server: LiveServer, told: dict[str, Any]) -> None:
        async with peer(server.url, "?session_id=door", **coming_back(told)) as client:
            again = await client.opt_in()
            assert [armed["question"] for armed in again["standing"]] == [
                "did you see an orange heart?", "did you see an orange star?",
            ]  # fmt: skip
            heart, star = await fired(client), await fired(client)
            assert ("heart" in heart["question"], "star" in star["question"]) == (True, True)
            assert (heart["number"], star["number"], heart["missed"]) == (1, 2, 0)
            assert 4 <= heart["time_s"] <= 6
            assert 14 <= star["time_s"] <= 16
            assert heart["evidence"][0]["start_s"] == heart["time_s"]
            await client.opt_in(fired_after=1)
            assert (await fired(client))["number"] == 2

    async def after_the_restart(server: LiveServer, told: dict[str, Any]) -> None:
        async with peer(server.url, "?session_id=door", **coming_back(told)) as client:
            again = await client.opt_in(binary_frames=True)
            heart, star = (armed["standing_id"] for armed in again["standing"])
            await client.send("streamvlm.standing.disarm", standing_id=star)
            await client.receive("streamvlm.standing.disarmed")
            for second in (5.0, 15.0):
                await client.frame(0, as_png(render(WORLD, second)), 100.0 + second)
            told_again = await fired(client)
            assert (told_again["standing_id"], told_again["time_s"], told_again["number"]) == (heart, 105.0, 3)
            await client.ask("what do you see now?")
            await client.send("session.update", session={"type": "realtime", "streamvlm": {}})
            assert [armed["standing_id"] for armed in (await state(client))["standing"]] == [heart]

    async def state(client: Peer) -> dict[str, Any]:
        told: dict[str, Any] = (await client.receive("session.updated"))["session"]["streamvlm"]
        return told

    with serving("127.0.0.1", tmp_path) as site, live_server(pocket, home=tmp_path / "home", **HERE) as server:
        told = asyncio.run(leave(server, f"http://{site.host}/clip.mp4"))
        wait_until(lambda: server.engine.stats().n_fired == 2)
        asyncio.run(come_back(server, told))
    with live_server(pocket, home=tmp_path / "home") as server:
        asyncio.run(after_the_restart(server, told))


def test_a_session_with_a_standing_question_is_kept_before_its_first_frame(
    pocket: VideoLanguageModel, tmp_path: Path
) -> None:
    async def arm(server: LiveServer) -> dict[str, Any]:
        async with peer(server.url, "?session_id=early") as client:
            told = await client.opt_in()
            await client.send("streamvlm.standing.arm", question="did you see a dog?")
            await client.receive("streamvlm.standing.armed")
            return told

    async def come_back(server: LiveServer, told: dict[str, Any]) -> int:
        async with peer(server.url, "?session_id=early", **coming_back(told)) as client:
            return len((await client.opt_in())["standing"])

    with live_server(pocket, home=tmp_path) as server:
        told = asyncio.run(arm(server))
    with live_server(pocket, home=tmp_path) as server:
        assert asyncio.run(come_back(server, told)) == 1


def test_the_python_client_hears_even_of_what_was_told_to_a_dead_connection_and_only_once(live: LiveServer) -> None:
    async def use() -> None:
        async with fragile_network(live.url) as network, connect(network.url) as session:
            armed = await session.arm("did you see an orange heart?", cool_down_s=0.5)
            here, alerts = live.engine.find(session.session_id), session.alerts()

            async def appears(from_s: float) -> None:
                n_before = live.engine.stats().n_fired
                for second in (2.0, 5.0, 8.0):
                    here.offer(render(WORLD, second), time_s=from_s + second)
                await asyncio.to_thread(wait_until, lambda: live.engine.stats().n_fired > n_before)

            for from_s in (0.0, 100.0):
                network.passes.clear()
                await appears(from_s)
                network.cut()
                network.passes.set()
                alert = await anext(alerts)
                assert (alert.time_s, alert.n_missed) == (from_s + 5.0, 0)
            await appears(200.0)
            assert (await anext(alerts)).time_s == 205.0
        async with connect(live.url, session_id=session.session_id, resume_token=session.resume_token) as another:
            (standing_id,) = another.standing
            assert another.standing[standing_id] == "did you see an orange heart?"
            await another.disarm(standing_id)
            assert armed != standing_id
            assert not here.standing()

    asyncio.run(use())


def test_watch_leaves_only_its_own_alerts_armed(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 1), tmp_path / "clip.mp4")
    here = live.engine.open("terminal")
    for question in ("did you see a dog?", "did you see a cat?"):
        here.arm(StandingQuestion(question))
    here.offer(render(WORLD, 0.0), time_s=0.0)
    command = ["watch", str(tmp_path / "clip.mp4"), "--server", live.url, "--session", "terminal"]
    run = CliRunner().invoke(main, [*command, "--alert", "did you see a cat?", "--alert", "is it red?", "what is it?"])
    assert run.exit_code == 0, run.output
    armed = [standing.question for standing in live.engine.find("terminal").standing().values()]
    assert armed == ["did you see a cat?", "is it red?"]


def test_what_was_armed_before_a_kill_is_armed_after_it(tmp_path: Path, device: str) -> None:
    flags = ["--home", str(tmp_path), "--flush-every-s", "0.5"]
    question = "did you see a red circle?"

    def is_kept(session_id: str) -> bool:
        diary = f"file:{tmp_path / session_id / 'diary.db'}?mode=ro"
        with closing(sqlite3.connect(diary, uri=True)) as database:
            return [question] == [row[0] for row in database.execute("SELECT question FROM standing")]

    async def use() -> None:
        async with AsyncExitStack() as opened:
            with await asyncio.to_thread(ServerProcess, device, *flags) as server:
                session = await opened.enter_async_context(connect(server.url))
                await session.arm(question)
                await asyncio.to_thread(wait_until, lambda: is_kept(session.session_id))
                server.process.kill()
            port = server.url.rpartition(":")[2]
            with await asyncio.to_thread(ServerProcess, device, *flags, "--port", port):
                await session.send(as_png(render(WORLD, 0.0)), time_s=0.0)  # once the connection stands again
                assert list(session.standing.values()) == [question]

    asyncio.run(use())
