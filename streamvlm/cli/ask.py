"""``streamvlm ask``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from streamvlm.cli.group import (
    device_option,
    dtype_option,
    main,
    model_option,
    policy_option,
    reconnect_option,
    stream_option,
    warn,
)
from streamvlm.cli.interrupts import Interrupts, quit_by
from streamvlm.cli.progress import ProgressLines
from streamvlm.cli.units import parse_bytes, parse_time
from streamvlm.errors import SourceLostError, UsageError
from streamvlm.ingest.address import locate
from streamvlm.readable import clock

if TYPE_CHECKING:
    from streamvlm.frame import Frame
    from streamvlm.ingest.read_ahead import ReadAhead
    from streamvlm.session.answer import Answer
    from streamvlm.session.session import Session

_ASK = """\
Watch SOURCE once and answer every QUESTION, streamed as it is written, with the seconds of video it rests on.

SOURCE is a video file, a folder of pictures, an http(s), rtsp, rtmp, udp or tcp URL, an HLS playlist, or a camera
such as /dev/video0. A QUESTION without --at is asked at the end of the stream. Questions see only what came before
them, and earlier questions and answers: "where was the red circle?" "and when was that?"

Ctrl+C, or SIGTERM, ends the watching, and what is still to be asked is asked then; a second one quits. A camera that
stalls is tried again for a while; where it does not come back, the answers are from what was watched, and the exit
code is 3.

With --memory DIR what was watched outlives the process: the same command with another SOURCE goes on with the
stream, and with `-` as SOURCE only asks.
"""

_ASK_EXAMPLES = """\
\b
examples:
  streamvlm ask clip.mp4 "what do you see now?" "when did the red circle appear?"
  streamvlm ask clip.mp4 --at 0:42 "what do you see now?" --at 1:30 "which badge did the blue star have?"
  streamvlm ask clip.mp4 --json "did you see a dog?" | jq .evidence
"""


@main.command("ask", help=_ASK, epilog=_ASK_EXAMPLES)
@click.argument("source")
@click.argument("questions", metavar="[QUESTION]...", nargs=-1)
@click.option(
    "--at",
    nargs=2,
    multiple=True,
    metavar="TIME QUESTION",
    help="Ask QUESTION when the stream reaches TIME (0:42, 42, 5m); repeatable.",
)
@click.option("--for", "length", metavar="LENGTH", help="Stop watching after this much stream time (10m).")
@reconnect_option
@stream_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a question on stdout, and nothing else.")
@click.option("--fps", default=1.0, show_default=True, help="Frames sampled from a second of stream time.")
@policy_option
@click.option("--window", default=8, show_default=True, metavar="BLOCKS", help="Newest blocks always attended to.")
@click.option("--top-k", default=8, show_default=True, metavar="BLOCKS", help="Most blocks to retrieve for a question.")
@click.option(
    "--memory-budget", default="512MiB", show_default=True, metavar="BYTES", help="RAM for remembered blocks."
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Remember on disk in DIR, and go on from what is remembered there.",
)
@click.option("--disk-budget", metavar="BYTES", help="Most bytes for blocks in DIR.  [default: 4GiB, or as before]")
@click.option(
    "--disk-codec",
    type=click.Choice(["raw", "int8", "int4"]),
    help="How exactly DIR keeps what it remembers.  [default: raw, or as before]",
)
@click.option(
    "--flush-every",
    type=float,
    metavar="SECONDS",
    help="Most seconds of the stream that a crash may cost.  [default: 2, or as before]",
)
@model_option
@device_option
@dtype_option
def _ask(
    source: str, questions: tuple[str, ...], at: tuple[tuple[str, str], ...], length: str | None, reconnect: str,
    stream: int | None, as_json: bool, fps: float, policy: str, window: int, top_k: int, memory_budget: str,
    memory: Path | None, disk_budget: str | None, disk_codec: str | None, flush_every: float | None, model: str,
    device: str, dtype: str,
) -> None:  # fmt: skip
    asked = sorted(((parse_time(time_), question) for time_, question in at), key=lambda pair: pair[0])
    if not asked and not questions:
        raise UsageError("There is no question; write one after SOURCE, or --at TIME QUESTION.")
    until_s, reconnect_s = parse_time(length) if length else None, parse_time(reconnect)
    late = [at_s for at_s, _ in asked if until_s is not None and at_s > until_s]
    if late:
        raise UsageError(f"--at {clock(late[0])} comes after watching ends (--for {length}); ask earlier, or watch on.")
    host_bytes, disk_bytes = parse_bytes(memory_budget), parse_bytes(disk_budget) if disk_budget else None
    if source != "-":
        locate(source)  # what is not there is told before anything is loaded
    with ExitStack() as opened:
        progress = opened.enter_context(ProgressLines(f"loading {model}"))
        from streamvlm.archive.archive import Archive, kept_config
        from streamvlm.ingest.read_ahead import ReadAhead
        from streamvlm.ingest.reconnecting import ReconnectingSource
        from streamvlm.ingest.source import open_source
        from streamvlm.memory.disk.codec import Codec
        from streamvlm.models.registry import load_model
        from streamvlm.session.config import SessionConfig
        from streamvlm.session.ram_budget import RamBudget
        from streamvlm.session.session import Session

        config = SessionConfig(policy=policy, window_blocks=window, top_k=top_k, host_budget_bytes=host_bytes)
        loaded = load_model(model, device=device, dtype=dtype)
        archive = None
        if memory is not None:
            given = {
                "codec": disk_codec and Codec(disk_codec),
                "budget_bytes": disk_bytes,
                "flush_every_s": flush_every,
            }
            settings = kept_config(memory, {name: value for name, value in given.items() if value is not None})
            archive = opened.enter_context(closing(Archive(memory, loaded, settings, on_event=warn)))
        session = Session(loaded, config, archive=archive, process=RamBudget.of_this_machine())
        opened.callback(session.close)
        for question in (*(question for _, question in asked), *questions):
            session.check_question(question)  # now, and not when all has been watched
        if source == "-":
            if archive is None or session.time_s is None:
                raise UsageError(
                    "Without a source there is nothing to ask; give one, or a --memory that holds a stream."
                )
            if asked:
                raise UsageError("--at needs a source to watch; ask a remembered stream without it.")
            for question in questions:
                _tell(session, question, as_json=as_json)
            return
        # A stream that was watched before goes on from there: what comes now is a second later.
        from_s = 0.0 if session.time_s is None else session.time_s + 1.0
        opens = partial(open_source, source, fps=fps, stream=stream)
        lasting = partial(ReconnectingSource, opens, reconnect_s=reconnect_s, from_s=from_s, tell=warn)
        frames = opened.enter_context(ReadAhead(lasting))
        interrupts = opened.enter_context(Interrupts(frames.stop))
        with _Watch(frames, session, progress, interrupts, from_s) as watch:
            for at_s, question in asked:
                watch.until(at_s)
                if (ended_s := watch.ended_s) is not None and at_s > ended_s + 1 / fps:
                    warn(f"The stream ended at {clock(ended_s)}, before {clock(at_s)}: asked there.")
                _tell(session, question, as_json=as_json, warnings=watch.warnings)
            watch.until(until_s)
        interrupts.give_way()
        progress.go_on("answering")
        for question in questions:
            _tell(session, question, as_json=as_json, warnings=watch.warnings)
        if watch.lost is not None:
            click.get_current_context().exit(watch.lost.exit_code)


class _Watch:
    """Feeds a source to a session, with a progress line on stderr, and stops where a question is to be asked.

    Attributes:
        warnings: Sentences about the source, from when it has ended.
        lost: Why the source was given up; None if it was not.
    """

    def __init__(
        self, frames: ReadAhead, session: Session, progress: ProgressLines, interrupts: Interrupts, from_s: float
    ) -> None:
        self._frames, self._session, self._interrupts, self._from_s = frames, session, interrupts, from_s
        self._source = frames.source
        self.warnings: list[str] = []
        self.lost: SourceLostError | None = None
        self._began_s = time.perf_counter()
        self._length_s = length_s = None if self._source.is_live else self._source.duration_s
        about = " (live; Ctrl+C ends that)" if self._source.is_live else f" ({clock(length_s)})" if length_s else ""
        progress.begin(f"watching {self._source.uri}{about}", self._how_far)
        self._bar = tqdm(
            total=length_s and round(length_s), unit="s", file=sys.stderr, disable=not sys.stderr.isatty(), leave=True,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}|" if length_s else "{desc}",
        )  # fmt: skip
        self._ahead = self._next()
        if self._ahead is None and interrupts.came is not None:
            quit_by(interrupts.came)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._bar.set_description_str(self.summary())
        self._bar.close()
        if self._bar.disable and kind is None:
            print(self.summary(), file=sys.stderr)

    def until(self, at_s: float | None) -> None:
        """Watches all frames up to ``at_s``, or to the end of the stream."""
        chunk = []
        size = 1 if self._source.is_live else 8
        while self._ahead is not None and (at_s is None or self._ahead.time_s <= self._from_s + at_s):
            chunk.append(self._ahead)
            self._ahead = self._next()
            if len(chunk) == size:
                self._observe(chunk)
                chunk = []
        if chunk:
            self._observe(chunk)
        self._bar.clear()  # so that an answer can be written

    @property
    def ended_s(self) -> float | None:
        """Time of the source's last frame; None while there are more frames."""
        return None if self._ahead is not None else self._watched_s

    def summary(self) -> str:
        """Returns a line about what has been watched so far."""
        memory = self._session.memory
        n_frames = sum(self._session.log.counts.values())
        parts = [
            f"{n_frames} {'frame' if n_frames == 1 else 'frames'}, {memory.n_clear} clear, {memory.n_fuzzy} fuzzy",
            f"{memory.host_bytes / 1e6:.1f} MB",
        ]
        if self._watched_s:  # a picture alone has no pace
            parts.append(self._pace())
        besides = {"corrupt": self._source.n_corrupt_packets, "forgotten": memory.n_forgotten}
        return ", ".join([*parts, *(f"{n} {what}" for what, n in besides.items() if n)])

    @property
    def _watched_s(self) -> float:
        return max(0.0, (self._session.time_s or 0.0) - self._from_s)

    def _pace(self) -> str:
        pace = self._watched_s / max(time.perf_counter() - self._began_s, 1e-9)
        return f"{pace:.{0 if pace >= 10 else 1 if pace >= 1 else 2}f}x real time"

    def _how_far(self) -> str:
        length = f" of {clock(self._length_s)}" if self._length_s else ""
        return f"{clock(self._watched_s)}{length} watched, {self._pace()}"

    def _next(self) -> Frame | None:
        """Returns the next frame, or None at the end, after it has printed why there are no more."""
        try:
            frame = next(self._frames, None)
        except SourceLostError as error:
            self.lost, frame = error, None
        if frame is None:
            self.warnings = [str(one) for one in (self._source.warning, self.lost) if one is not None]
            if self._interrupts.came is not None:
                self._say(self._interrupts.told)
            for warning in self.warnings:
                self._say(warning)
        return frame

    def _say(self, line: str) -> None:
        self._bar.clear()
        warn(line)

    def _observe(self, chunk: Sequence[Frame]) -> None:
        self._session.observe(chunk)
        self._bar.n = round(self._watched_s)
        self._bar.set_description_str(self.summary())


def _tell(session: Session, question: str, *, as_json: bool, warnings: Sequence[str] = ()) -> None:
    answering = session.ask(question)
    if as_json:
        print(json.dumps(answer_json(answering.answer, warnings)), flush=True)
        return
    print(f"[{clock(session.time_s or 0)}] {question}")
    for piece in answering:
        print(piece, end="", flush=True)
    print()
    for seen in answering.answer.evidence:
        span = clock(seen.start_s) + (f"-{clock(seen.end_s)}" if seen.end_s > seen.start_s else "")
        print(f"    {span}  {seen.fidelity}  {seen.score:.2f}")
    print(flush=True)


def answer_json(answer: Answer, warnings: Sequence[str]) -> dict[str, object]:
    """Returns an answer as a JSON object, with the warnings about its source."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "is_cut": answer.is_cut,
        "asked_at_s": answer.asked_at_s,
        "evidence": [asdict(seen) for seen in answer.evidence],
        "timings": asdict(answer.timings),
        "tokens": asdict(answer.tokens),
        "memory": asdict(answer.memory),
        "model": answer.model,
        "warnings": list(warnings),
    }
