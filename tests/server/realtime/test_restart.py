"""`streamvlm serve` as a process: killed, and asked to stop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

from websocket_peer import NOISE, as_jpeg, peer

from streamvlm.client import RemoteSession, connect


@contextmanager
def serving(home: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL."""
    command = [sys.executable, "-m", "streamvlm", "serve", "--home", str(home), "--port", str(port)]
    command += ["--flush-every-s", "0.5", "--drain-s", "5", "--log-level", "error"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving pocket on " in line:
                break
        else:
            raise AssertionError("".join(lines))
        try:
            yield process, line.split()[-1]
        finally:
            process.kill()


async def show(session: RemoteSession, *times_s: float) -> str:
    for time_s in times_s:
        await session.send(as_jpeg(NOISE), time_s=time_s)
    return (await session.ask("what do you see now?").whole()).text


def test_a_killed_server_is_come_back_to_and_a_stopped_one_says_so_and_exits_in_order(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncExitStack() as opened:
            with serving(tmp_path) as (process, url):
                session = await opened.enter_async_context(connect(url))
                text = await show(session, *(float(second) for second in range(10)))
                assert text
                process.send_signal(signal.SIGKILL)
            with await asyncio.to_thread(started, tmp_path, int(url.rpartition(":")[2])) as (process, _):
                assert await show(session, 20.0) == text
                assert session.resumed_at_s is not None
                assert session.resumed_at_s >= 9 - 0.5 - 1  # what was promised, and a frame that was on its way
                assert (await session.ask("what do you see now?", at_s=5.0).whole()).asked_at_s == 5.0
                async with peer(url) as knowing, peer(url) as unknowing:
                    await knowing.opt_in()
                    await unknowing.receive("session.created")
                    process.send_signal(signal.SIGTERM)
                    assert (await knowing.receive())["type"] == "streamvlm.going_away"
                    assert [(await closed.closed())[0] for closed in (knowing, unknowing)] == [1012, 1012]
                assert await asyncio.to_thread(process.wait, 30) == 0

    asyncio.run(use())


def started(home: Path, port: int) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """A server that has started; entering it takes no time."""
    stack = ExitStack()
    entered = stack.enter_context(serving(home, port))

    @contextmanager
    def leaving() -> Iterator[tuple[subprocess.Popen[str], str]]:
        with stack:
            yield entered

    return leaving()
