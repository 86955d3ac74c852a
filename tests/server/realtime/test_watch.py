"""`streamvlm watch` against a real server."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from fragile_network import fragile_network
from live_server import LiveServer
from remux import remux
from rtsp_camera import hang_up, rtsp_camera

from streamvlm.cli import main
from streamvlm.client import connect
from streamvlm.world.events import make_world
from streamvlm.world.video import write_video


def test_watch_sends_a_video_and_shows_the_answers(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 2), tmp_path / "clip.mp4")
    command = ["watch", str(tmp_path / "clip.mp4"), "--server", live.url, "--fps", "4", "--every", "1s"]
    run = CliRunner().invoke(main, [*command, "--session", "watched", "what do you see now?"])
    assert run.exit_code == 0, run.output
    assert run.stdout.count("what do you see now?") >= 2
    assert "clear" in run.stdout
    assert "session watched, resume token" in run.stderr


def test_watch_goes_on_after_a_question_that_is_lost_with_its_connection(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 2), tmp_path / "clip.mp4")

    async def use() -> Result:
        async with fragile_network(live.url) as network:
            network.holds_at = b"response.created"
            command = ["watch", str(tmp_path / "clip.mp4"), "--server", network.url, "--fps", "4", "--every", "1s"]
            watching = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, main, [*command, "what do you see?"]))
            await network.holds.wait()
            network.cut()
            network.passes.set()
            return await watching

    run = asyncio.run(use())
    assert run.exit_code == 0, run.output
    assert run.stderr.count("'what do you see?' was not answered: The connection is lost (1006).") == 1
    assert "clear" in run.stdout


def test_watch_ends_when_its_connection_is_lost_for_good_amid_its_last_question(
    live: LiveServer, tmp_path: Path
) -> None:
    write_video(make_world(4_000_000, 1), tmp_path / "clip.mp4")

    async def use() -> Result:
        async with connect(live.url, session_id="wanted") as session:
            token = str(session.resume_token)
        async with fragile_network(live.url) as network:
            network.holds_at = b"response.created"
            command = ["watch", str(tmp_path / "clip.mp4"), "--server", network.url, "--session", "wanted"]
            command += ["--token", token, "what do you see?"]
            watching = asyncio.create_task(asyncio.to_thread(CliRunner().invoke, main, command))
            await network.holds.wait()
            async with connect(live.url, session_id="wanted", resume_token=token):
                network.passes.set()
                return await watching

    run = asyncio.run(use())
    assert run.exit_code == 2, run.output
    *_, warned, told = run.stderr.splitlines()
    assert "was not answered: The connection is lost (1008)." in warned
    assert "Another connection has taken the session up." in told


def test_watch_asks_about_what_it_has_sent_of_a_camera_that_is_lost(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 4), tmp_path / "clip.mp4")
    pictures = remux(tmp_path / "clip.mp4", tmp_path / "clip.ts").read_bytes()
    with rtsp_camera(pictures, hang_up) as camera:
        command = ["watch", camera.url, "--server", live.url, "--reconnect", "0", "what do you see now?"]
        run = CliRunner().invoke(main, command)
    assert run.exit_code == 3, run.output
    assert "what do you see now?" in run.stdout
    assert f"Nothing has come from {camera.url} since 0:03 (" in run.stderr


def test_a_signal_ends_the_watching_and_what_is_asked_is_asked(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 60), tmp_path / "clip.mp4")
    args = [str(tmp_path / "clip.mp4"), "--server", live.url, "--every", "1s", "what do you see now?"]
    command = [sys.executable, "-m", "streamvlm", "watch", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "what do you see now?" in process.stdout.readline()  # it is in the midst of watching
        process.send_signal(signal.SIGINT)
        answers, said = process.communicate()
    assert process.returncode == 0, said
    assert "Ctrl+C ended the watching, and what is still to be asked is asked now." in said
    assert "what do you see now?" in answers


def test_watch_says_in_a_sentence_why_it_cannot(live: LiveServer, tmp_path: Path) -> None:
    write_video(make_world(4_000_000, 1), tmp_path / "clip.mp4")
    run = CliRunner().invoke(main, ["watch", str(tmp_path / "clip.mp4"), "--server", "ws://127.0.0.1:9", "what?"])
    assert (run.exit_code, run.stderr.count("\n")) == (2, 1)
    assert "cannot be reached" in run.stderr
