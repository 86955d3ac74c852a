"""``streamvlm bench serve``: many live sessions on one server, beside the same questions asked of the library.

The server is another process; this one is all its clients. Every session gets its own world at 1 frame/s, by the clock,
and every few seconds one of them, in turn, gets a question. Afterwards the library alone gets the same frames and
questions at the same moments: its time to the first token is the lower bound.

To measure what the service itself adds, one more session is asked on an idle server, one question after the other, and
the library likewise.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from shutil import copyfileobj
from typing import Any

import cv2

from streamvlm.client import RemoteError, RemoteSession, connect
from streamvlm.errors import StreamVlmError
from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.session import Session
from streamvlm.world.events import World, make_world
from streamvlm.world.render import render

QUESTIONS = ("what do you see now?", "did you see a red circle?", "where was the blue star?", "what did you see first?")
_GOLDEN = 0.618
_TIMEOUT_S = 60.0
_LAST_STATS_S = 1.5
_IDLE_FRAMES, _IDLE_QUESTIONS = 60, 40


@dataclass(frozen=True, slots=True)
class Load:
    """The load on a server: sessions, seconds, and seconds from one question to the next, in whichever session."""

    n_sessions: int
    duration_s: int
    question_every_s: float


@dataclass(slots=True)
class _Viewer:
    """One session as its client sees it: its pictures, its questions, and what the server sent."""

    world: World
    jpegs: list[bytes]
    """One a second, made beforehand, because drawing would take cores from the server."""
    lag_s: list[float] = field(default_factory=list)
    n_dropped: int = 0
    asked: list[tuple[float, str]] = field(default_factory=list)
    """Stream time and question."""
    served: list[tuple[float, float]] = field(default_factory=list)
    """Seconds to the first words of every answer, by the client's clock and by the server's."""

    def hear(self, event: dict[str, Any]) -> None:
        if event["type"] == "streamvlm.stats":
            self.lag_s.append(event["lag_s"])
            self.n_dropped = event["frames_dropped"]


def bench_serve(model: VideoLanguageModel, load: Load, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Starts a server, loads it with sessions and questions, and reports on the answers.

    Args:
        model: The library's model; the server loads one of the same name.
        load: How much.
        progress: Gets a sentence on each stage.

    Raises:
        StreamVlmError: If the server does not start.
    """
    progress("drawing what is shown")
    worlds = [make_world(1_000 + n, load.duration_s) for n in range(load.n_sessions)]
    viewers = [_Viewer(world, [_jpeg(world, second) for second in range(load.duration_s)]) for world in worlds]
    with _serving(model.name, load.n_sessions) as url:
        progress(f"{load.n_sessions} sessions on {url} for {load.duration_s} s")
        asyncio.run(_watch_all(url, viewers, load))
        progress("one idle session")
        idle = _Viewer(worlds[0], viewers[0].jpegs[:_IDLE_FRAMES])
        asyncio.run(_ask_idle(url, idle))
    progress("the same questions of the library")
    alone_s = [ttft_s for viewer in viewers for ttft_s in _ask_library(model, viewer)]
    return _report(load, viewers, alone_s) | {"idle, ttft_ms": _ttft_ms([idle], list(_ask_library(model, idle)))}


@contextmanager
def _serving(model: str, n_sessions: int) -> Iterator[str]:
    """Runs a server in another process; yields its URL."""
    command = [sys.executable, "-m", "streamvlm", "serve", "--port", "0", "--log-level", "error", "--model", model]
    sizes = [
        "--max-sessions",
        str(n_sessions),
        "--session-memory-budget",
        "64MiB",
        "--memory-budget",
        f"{64 * n_sessions}MiB",
    ]
    with subprocess.Popen([*command, *sizes], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "serving " in line:
                    # Its log goes to our stderr: with a pipe that nobody reads, it would wait for ever.
                    threading.Thread(target=copyfileobj, args=(process.stderr, sys.stderr), daemon=True).start()
                    yield line.split()[-1]
                    return
            raise StreamVlmError("The server did not start; run `streamvlm serve` to see why.")
        finally:
            process.terminate()


async def _watch_all(url: str, viewers: Sequence[_Viewer], load: Load) -> None:
    async with AsyncExitStack() as connected:
        sessions = [
            await connected.enter_async_context(connect(url, events=["stats"], on_event=viewer.hear))
            for viewer in viewers
        ]
        began_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for viewer, session in zip(viewers, sessions, strict=True):
                tasks.create_task(_show(viewer, session, began_s))
            tasks.create_task(_ask_around(viewers, sessions, load, began_s))
        await asyncio.sleep(_LAST_STATS_S)


async def _show(viewer: _Viewer, session: RemoteSession, began_s: float) -> None:
    loop = asyncio.get_running_loop()
    for second, jpeg in enumerate(viewer.jpegs):
        await asyncio.sleep(began_s + second - loop.time())
        await session.send(jpeg, time_s=float(second))


async def _ask_around(
    viewers: Sequence[_Viewer], sessions: Sequence[RemoteSession], load: Load, began_s: float
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        around = zip(cycle(viewers), cycle(sessions), cycle(QUESTIONS), strict=False)
        for n, (viewer, session, question) in enumerate(around, 1):
            # Frames come on the beat of the second, questions anywhere in it.
            at_s = n * load.question_every_s + n * _GOLDEN % 1
            if at_s >= load.duration_s:
                return
            await asyncio.sleep(began_s + at_s - loop.time())
            tasks.create_task(_ask(viewer, session, question, at_s))


async def _ask(viewer: _Viewer, session: RemoteSession, question: str, at_s: float) -> None:
    viewer.asked.append((at_s, question))
    began_s = time.perf_counter()
    with suppress(RemoteError, TimeoutError, StopAsyncIteration):  # then it counts as lost
        async with asyncio.timeout(_TIMEOUT_S):
            reply = session.ask(question, out_of_band=True)
            await anext(reply)
            ttft_s = time.perf_counter() - began_s
            viewer.served.append((ttft_s, (await reply.whole()).ttft_s))


async def _ask_idle(url: str, viewer: _Viewer) -> None:
    async with connect(url) as session:
        for second, jpeg in enumerate(viewer.jpegs):
            await session.send(jpeg, time_s=float(second))
            await session.ask(QUESTIONS[0], out_of_band=True).whole()  # so that no frame is dropped
        for question in islice(cycle(QUESTIONS), _IDLE_QUESTIONS):
            await _ask(viewer, session, question, len(viewer.jpegs) - 1)


def _jpeg(world: World, second: int) -> bytes:
    return bytes(cv2.imencode(".jpg", render(world, float(second))[..., ::-1])[1])


def _ask_library(model: VideoLanguageModel, viewer: _Viewer) -> Iterator[float]:
    session, second = Session(model), 0
    for at_s, question in viewer.asked:
        while second <= at_s:
            session.observe(Frame(second, float(second), render(viewer.world, float(second))))
            second += 1
        yield session.ask(question, out_of_band=True).answer.timings.ttft_s


def _report(load: Load, viewers: Sequence[_Viewer], alone_s: Sequence[float]) -> dict[str, Any]:
    n_asked = sum(len(viewer.asked) for viewer in viewers)
    return {
        "sessions": load.n_sessions,
        "duration_s": load.duration_s,
        "questions": n_asked,
        "answers lost": n_asked - sum(len(viewer.served) for viewer in viewers),
        "frames dropped": sum(viewer.n_dropped for viewer in viewers),
        "lag growth_s of each session": [_growth(viewer.lag_s) for viewer in viewers],
        "ttft_ms": _ttft_ms(viewers, alone_s),
    }


def _ttft_ms(viewers: Sequence[_Viewer], alone_s: Sequence[float]) -> dict[str, Any]:
    served = [times for viewer in viewers for times in viewer.served]
    client, server, library = (_quantiles(times) for times in ([t for t, _ in served], [t for _, t in served], alone_s))
    return {
        "seen by the client": client,
        "by the server's clock": server,
        "library, alone": library,
        "added at p50": round(client["p50"] - library["p50"], 2),
    }


def _growth(lag_s: Sequence[float]) -> float | None:
    """Returns by how much the least lag of the last quarter exceeds that of the first.

    The least, because a frame that has just come and is being watched is a lag of a second, but no growth.
    """
    quarter = len(lag_s) // 4
    if not quarter:
        return None
    return round(min(lag_s[-quarter:]) - min(lag_s[:quarter]), 3)


def _quantiles(times_s: Sequence[float]) -> dict[str, float]:
    if len(times_s) < 2:
        return {"p50": round(1000 * sum(times_s), 2), "p95": round(1000 * sum(times_s), 2), "n": len(times_s)}
    cuts = statistics.quantiles(times_s, n=20, method="inclusive")
    return {"p50": round(1000 * cuts[9], 2), "p95": round(1000 * cuts[18], 2), "n": len(times_s)}
