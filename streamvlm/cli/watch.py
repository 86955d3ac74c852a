"""``streamvlm watch``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from streamvlm.cli.group import main, reconnect_option, stream_option, warn
from streamvlm.cli.interrupts import Interrupts
from streamvlm.cli.units import parse_time
from streamvlm.errors import SourceLostError, StreamVlmError, UsageError
from streamvlm.readable import clock

if TYPE_CHECKING:
    from streamvlm.client import RemoteSession
    from streamvlm.frame import Frame
    from streamvlm.ingest.read_ahead import ReadAhead

_WATCH = """\
Watch SOURCE here, send its frames to a server, and show the answers as they come.

SOURCE is what `streamvlm ask` takes: a file, a URL, a camera. A recorded one is sent at the pace at which it was
recorded. Every QUESTION is asked when SOURCE ends, and with --every again and again until then; lines typed at the
terminal are asked at once. The server remembers: with --session NAME the same stream is taken up again later.

Ctrl+C, or SIGTERM, ends the watching, and every QUESTION is asked then; a second one quits. A camera that stalls is
tried again for a while; where it does not come back, that ends the watching too, and the exit code is 3.
"""

_EXAMPLES = """\
\b
examples:
  streamvlm watch /dev/video0 --server ws://localhost:8000 --every 10s "what do you see now?"
  streamvlm watch rtsp://camera/1 --server wss://host --session door --alert "did you see a dog?"
"""


@main.command("watch", help=_WATCH, epilog=_EXAMPLES)
@click.argument("source")
@click.argument("questions", metavar="[QUESTION]...", nargs=-1)
@click.option("--server", required=True, metavar="URL", help="Of the server, such as ws://localhost:8000.")
@click.option("--every", metavar="TIME", help="Ask every QUESTION again after this much stream time (10s, 5m).")
@click.option("--alert", "alerts", multiple=True, metavar="QUESTION", help="Tell when yes becomes likely; repeatable.")
@click.option("--session", "session_id", metavar="NAME", help="Take up this session, or begin it.")
@click.option(
    "--token", envvar="STREAMVLM_RESUME_TOKEN", metavar="TOKEN", help="Of that session; or STREAMVLM_RESUME_TOKEN."
)
@click.option("--key", envvar="STREAMVLM_API_KEY", metavar="KEY", help="API key; or STREAMVLM_API_KEY.")
@click.option("--fps", default=1.0, show_default=True, help="Frames sampled from a second of stream time.")
@reconnect_option
@stream_option
def _watch(
    source: str, questions: tuple[str, ...], server: str, every: str | None, alerts: tuple[str, ...],
    session_id: str | None, token: str | None, key: str | None, fps: float, reconnect: str, stream: int | None,
) -> None:  # fmt: skip
    from streamvlm.client import connect
    from streamvlm.ingest.read_ahead import ReadAhead
    from streamvlm.ingest.reconnecting import ReconnectingSource
    from streamvlm.ingest.source import open_source

    every_s, reconnect_s = parse_time(every) if every is not None else None, parse_time(reconnect)
    if every_s is not None and not questions:
        raise UsageError("--every has nothing to ask; give a QUESTION.")

    async def run(frames: ReadAhead) -> SourceLostError | None:
        async with connect(server, key=key, session_id=session_id, resume_token=token, on_event=_tell_event) as to:
            warn(f"session {to.session_id}" + (f", resume token {to.resume_token}" if to.resume_token else ""))
            watching = _Watching(to, frames, questions, every_s)
            with Interrupts(watching.stop) as interrupts:
                await watching.run(alerts, interrupts)
            return watching.lost

    opens = partial(open_source, source, fps=fps, stream=stream)
    failures: tuple[Exception | BaseExceptionGroup[Exception], ...] = ()
    lost = None
    try:
        with ReadAhead(partial(ReconnectingSource, opens, reconnect_s=reconnect_s, tell=warn)) as frames:
            lost = asyncio.run(run(frames))
    except* StreamVlmError as group:
        failures = group.exceptions
    if failures:
        raise failures[0]
    if lost is not None:
        click.get_current_context().exit(lost.exit_code)


class _Watching:
    """Sends a source's frames and asks meanwhile; answers are written one after another.

    Attributes:
        lost: The error with which the source was lost; None if it was not.
    """

    def __init__(
        self, session: RemoteSession, frames: ReadAhead, questions: tuple[str, ...], every_s: float | None
    ) -> None:
        self._session, self._frames, self._questions, self._every_s = session, frames, questions, every_s
        self._loop, self._is_stopped = asyncio.get_running_loop(), asyncio.Event()
        self.lost: SourceLostError | None = None
        # A session that watched something before goes on a second later.
        self._from_s = 0.0 if session.resumed_at_s is None else session.resumed_at_s + 1.0
        self._writing = asyncio.Lock()

    def stop(self) -> None:
        """Ends the watching; called by a signal handler."""
        self._frames.stop()
        self._loop.call_soon_threadsafe(self._is_stopped.set)

    async def run(self, alerts: tuple[str, ...], interrupts: Interrupts) -> None:
        """Watches to the end, then asks; standing questions of the session other than ``alerts`` are disarmed."""
        for standing_id, question in self._session.standing.items():
            if question not in alerts:
                await self._session.disarm(standing_id)
        for question in alerts:
            await self._session.arm(question)
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell_alerts())
            typing = tasks.create_task(self._ask_typed()) if sys.stdin.isatty() else None
            asking: asyncio.Task[None] | None = None
            next_s = self._every_s
            async for frame in self._paced(interrupts):
                await self._session.send(frame.picture, time_s=self._from_s + frame.time_s, captured_s=frame.wall_s)
                is_free = asking is None or asking.done()
                if next_s is not None and self._every_s is not None and frame.time_s >= next_s and is_free:
                    next_s = frame.time_s + self._every_s
                    asking = tasks.create_task(self._ask_all())
            if asking is not None:
                await asking
            await self._ask_all()
            telling.cancel()
            if typing is not None:
                typing.cancel()

    async def _paced(self, interrupts: Interrupts) -> AsyncIterator[Frame]:
        """Yields the source's frames, those of a recording at its own pace; at the end prints warnings about it."""
        source, began_s = self._frames.source, self._loop.time()
        while (frame := await self._next()) is not None:
            if not source.is_live:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_stopped.wait(), began_s + frame.time_s - self._loop.time())
            yield frame
        for warning in (source.warning, self.lost):
            if warning is not None:
                warn(str(warning))
        if interrupts.came is not None:
            warn(interrupts.told)

    async def _next(self) -> Frame | None:
        try:
            return await asyncio.to_thread(next, self._frames, None)
        except SourceLostError as error:
            self.lost = error
            return None

    async def _ask_all(self) -> None:
        for question in self._questions:
            await self._ask(question)

    async def _ask(self, question: str) -> None:
        """Asks, and writes the answer; warns if the question fails, and the stream goes on."""
        try:
            async with self._writing:
                await self._write_answer(question)
        except StreamVlmError as error:
            warn(f"{question!r} was not answered: {error}")
            await self._session.ready()  # without a connection no question can be asked

    async def _write_answer(self, question: str) -> None:
        print(question)
        reply = self._session.ask(question)
        try:
            async for piece in reply:
                print(piece, end="", flush=True)
        finally:
            print()
        for seen in reply.answer.evidence:
            span = clock(seen.start_s) + (f"-{clock(seen.end_s)}" if seen.end_s > seen.start_s else "")
            print(f"    {span}  {seen.fidelity}  {seen.score:.2f}", flush=True)

    async def _tell_alerts(self) -> None:
        async for alert in self._session.alerts():
            async with self._writing:
                if alert.n_missed:
                    print(f"! {alert.n_missed} earlier alerts were not kept")
                print(f"! [{clock(alert.time_s)}] {alert.question} yes ({alert.probability:.2f})", flush=True)

    async def _ask_typed(self) -> None:
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
        try:
            while line := await lines.get():
                if line.strip():
                    await self._ask(line.strip())
        finally:
            loop.remove_reader(sys.stdin)


def _tell_event(event: dict[str, object]) -> None:
    match event:
        case {"type": "streamvlm.going_away", "reason": reason}:
            warn(str(reason))
        case {"type": "streamvlm.notice", "message": message}:
            warn(str(message))
        case {"type": "error", "error": {"message": message}}:
            warn(str(message))
