"""A server that is told to stop loses nothing: answers end, memory is on disk, and its exit code says so."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from live_server import live_server, wait_until
from PIL import Image

from streamvlm.cli import main
from streamvlm.engine.engine import Engine
from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import World
from streamvlm.world.render import render
from streamvlm_server import serve
from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import DrainingError
from streamvlm_server.hosting.drain import Drain


def long_question(world: World, n_frames: int) -> dict[str, Any]:
    """A request that takes a while."""
    file = io.BytesIO()
    Image.fromarray(render(world, 3.0)).save(file, "JPEG")
    url = "data:video/jpeg;base64," + ",".join([base64.b64encode(file.getvalue()).decode()] * n_frames)
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "what do you see now?"}]
    return {"model": "pocket", "messages": [{"role": "user", "content": parts}]}


class Asking(threading.Thread):
    """Sends a request, and keeps the answer."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        super().__init__()
        self._url, self._body = url, body
        self.answer: httpx2.Response | None = None

    def run(self) -> None:
        self.answer = httpx2.post(f"{self._url}/v1/chat/completions", json=self._body, timeout=100)


def test_running_answers_end_new_ones_are_refused_and_every_frame_is_kept(
    pocket: VideoLanguageModel, world: World, tmp_path: Path
) -> None:
    with live_server(pocket, home=tmp_path, drain_s=60) as running:
        asking = Asking(running.url, long_question(world, 60))
        asking.start()
        wait_until(lambda: running.engine.stats().n_frames > 0)
        session = running.engine.open("camera")
        for second in range(10):
            session.offer(render(world, float(second)), time_s=float(second))
        running.server.stop()
        wait_until(lambda: running.service.drain.is_draining)
        told = httpx2.get(f"{running.url}/v1/models", timeout=60)
        assert (told.status_code, told.json()["error"]["code"]) == (503, "going_away")
        assert "retry-after" in told.headers
        assert httpx2.get(f"{running.url}/readyz", timeout=60).status_code == 503
        asking.join()
        assert asking.answer is not None
        assert asking.answer.status_code == 200
        assert asking.answer.json()["choices"][0]["message"]["content"]
        config = serve.engine_config(running.service.config)
    with Engine(pocket, config) as engine:
        remembered = engine.find("camera").timeline()
        assert [decision.time_s for decision in remembered.decisions] == list(range(10))


def test_a_process_that_gets_sigterm_amid_an_answer_gives_it_and_exits_with_0(world: World, device: str) -> None:
    command = [sys.executable, "-m", "streamvlm", "serve", "--port", "0", "--drain-s", "100", "--device", device]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(line for line in process.stderr if "serving pocket on" in line).split()[-1]
            rest: list[str] = []
            reading = threading.Thread(target=lambda: rest.extend(process.stderr or ()))
            reading.start()
            asking = Asking(url, long_question(world, 60))
            asking.start()
            wait_until(lambda: "streamvlm_num_sessions_running 1.0" in httpx2.get(f"{url}/metrics", timeout=60).text)
            process.send_signal(signal.SIGTERM)
            asking.join()
            assert asking.answer is not None
            assert asking.answer.status_code == 200
            assert process.wait() == 0
            reading.join()
            assert all(line.startswith("{") for line in rest), rest
        finally:
            process.kill()


def test_what_answers_leave_of_the_time_for_a_stop_goes_to_frames_that_wait(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    close, left_s = Engine.close, list[float]()

    def note_and_close(engine: Engine, *, drain_s: float = 10.0) -> None:
        left_s.append(drain_s)
        close(engine, drain_s=drain_s)

    def ask_to_stop(url: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Engine, "close", note_and_close)
    monkeypatch.setattr(serve, "configure_logging", lambda level: None)  # would stay so for all other tests
    asyncio.run(serve.serve(ServerConfig(port=0, drain_s=100, device=device), on_ready=ask_to_stop))
    assert 100 / 3 < left_s[0] < 100


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--host", "0.0.0.0"], "--keys-file"),
        (["--port", "TAKEN"], "TAKEN"),
        (["--port", "many"], "--port"),
        (["--keys-file", "missing.toml"], "missing.toml"),
        (["--tls-cert", "cert.pem"], "TLS"),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
def test_a_server_that_cannot_begin_says_why_in_one_sentence(flags: list[str], named: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["serve", *(port if flag == "TAKEN" else flag for flag in flags)])
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert named.replace("TAKEN", port) in done.stderr


def test_what_would_never_end_is_told_and_waited_for() -> None:
    async def run() -> list[str]:
        drain, told = Drain(), []
        leaving = asyncio.Event()

        async def connection() -> None:
            with drain.running(leaving.set):
                await leaving.wait()
                told.append("said goodbye")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection())
            await asyncio.sleep(0)
            assert drain.n_running == 1
            await drain.finish(60)
            told.append("stopped")
            with pytest.raises(DrainingError), drain.running():
                pass
        return told

    assert asyncio.run(run()) == ["said goodbye", "stopped"]


def test_what_does_not_end_in_time_is_not_waited_for() -> None:
    async def run() -> int:
        drain = Drain()
        with drain.running():
            await drain.finish(0.01)
            return drain.n_running

    assert asyncio.run(run()) == 1
