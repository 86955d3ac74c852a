"""The command line: ``streamvlm ask``, ``models``, ``world``, ``calibrate``, ``eval`` and ``bench``."""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from streamvlm.errors import StreamVlmError, UsageError

if TYPE_CHECKING:
    from streamvlm.engine import Answer, Session
    from streamvlm.ingest.source import FrameSource

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}

_ABOUT = """\
\b
Watch a video and answer questions about it: what is there now, what was there earlier, when, and in what order.

  streamvlm world 7 --duration 4m --out demo.mp4         make a synthetic video with known events
  streamvlm ask demo.mp4 "what do you see now?"          watch it to its end, then answer
  streamvlm ask demo.mp4 --at 1:30 "what do you see now?" --at 2:00 "what was in the top of the sea?"
  streamvlm ask rtsp://camera/1 --for 10m "did you see a dog?"
"""

_ASK = """\
Watch SOURCE once and answer every QUESTION, streamed as it is written, with the seconds of video it rests on.

SOURCE is a video file, a folder of pictures, an http(s), rtsp, rtmp, udp or tcp URL, an HLS playlist, or a camera
such as /dev/video0. A QUESTION without --at is asked at the end of the stream. Questions see only what came before
them, and earlier questions and answers: "where was the red circle?" "and when was that?"
"""

_ASK_EXAMPLES = """\
\b
examples:
  streamvlm ask clip.mp4 "what do you see now?" "when did the red circle appear?"
  streamvlm ask clip.mp4 --at 0:42 "what do you see now?" --at 1:30 "which badge did the blue star have?"
  streamvlm ask clip.mp4 --json "did you see a dog?" | jq .evidence
"""


def parse_time(text: str) -> float:
    """Seconds of ``42``, ``42.5``, ``42s``, ``5m``, ``2h``, ``0:42`` or ``1:02:03``.

    Raises:
        UsageError: If it is none of these.
    """
    if unit := re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text):
        return float(unit[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[unit[2]]
    if clock := re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)", text):
        return 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
    raise UsageError(f"{text!r} is not a time; write seconds (42), a clock (1:02:03) or a length (5m).")


def parse_bytes(text: str) -> int:
    """Bytes of ``1000000``, ``256MB`` or ``1GiB``.

    Raises:
        UsageError: If it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.lower())
    if found is None:
        raise UsageError(f"{text!r} is not a size; write bytes, or a number with a unit such as 256MB or 1GiB.")
    return int(float(found[1]) * _UNITS[found[2] or ""])


class _Commands(click.Group):
    """Turns errors into one sentence and an exit code: 2 for bad usage or input, 1 for an internal failure."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except StreamVlmError as error:
            click.echo(f"streamvlm: {error}", err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError, KeyboardInterrupt):
            raise
        except Exception:
            traceback.print_exc()
            click.echo("streamvlm: an internal failure; please report it with the lines above.", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, help=_ABOUT)
@click.version_option(package_name="streamvlm")
def main() -> None:
    """Holds the commands."""


_model_option = click.option("--model", default="pocket", show_default=True, help="Name or directory of a model.")
_device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


# --- ask --------------------------------------------------------------------------------------------------------------


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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a question on stdout, and nothing else.")
@click.option("--fps", default=1.0, show_default=True, help="Frames sampled from a second of stream time.")
@click.option("--window", default=8, show_default=True, metavar="BLOCKS", help="Newest blocks always attended to.")
@click.option("--top-k", default=8, show_default=True, metavar="BLOCKS", help="Most blocks to retrieve for a question.")
@click.option(
    "--memory-budget", default="512MiB", show_default=True, metavar="BYTES", help="RAM for remembered blocks."
)
@_model_option
@_device_option
def _ask(
    source: str, questions: tuple[str, ...], at: tuple[tuple[str, str], ...], length: str | None, as_json: bool,
    fps: float, window: int, top_k: int, memory_budget: str, model: str, device: str,
) -> None:  # fmt: skip
    from streamvlm.engine import Session, SessionConfig
    from streamvlm.ingest.source import open_source
    from streamvlm.models.registry import load_model

    asked = [(parse_time(time_), question) for time_, question in at]
    if not asked and not questions:
        raise UsageError("There is no question; write one after SOURCE, or --at TIME QUESTION.")
    config = SessionConfig(window_blocks=window, top_k=top_k, host_budget_bytes=parse_bytes(memory_budget))
    until_s = parse_time(length) if length else None
    with open_source(source, fps=fps) as frames:
        session = Session(load_model(model, device=device), config)
        with _Watch(frames, session) as watch:
            for at_s, question in sorted(asked, key=lambda pair: pair[0]):
                watch.until(at_s if until_s is None else min(at_s, until_s))
                _tell(session, question, watch, as_json=as_json)
            watch.until(until_s)
        for question in questions:
            _tell(session, question, watch, as_json=as_json)


class _Watch:
    """Feeds a source to a session, with a progress line on stderr, and stops where a question is to be asked."""

    def __init__(self, source: FrameSource, session: Session) -> None:
        self._source, self._session = source, session
        self._ahead = next(source, None)
        self._began_s = time.perf_counter()
        length = None if source.is_live else source.duration_s
        self._bar = tqdm(
            total=length and round(length), unit="s", file=sys.stderr, disable=not sys.stderr.isatty(), leave=True,
            bar_format="{desc} {percentage:3.0f}%|{bar:20}|" if length else "{desc}",
        )  # fmt: skip

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._bar.set_description_str(self.summary())
        self._bar.close()
        if self._bar.disable and kind is None:
            print(self.summary(), file=sys.stderr)

    def until(self, at_s: float | None) -> None:
        """Watches every frame up to ``at_s``, or to the end of the stream."""
        chunk = []
        size = 1 if self._source.is_live else 8
        while self._ahead is not None and (at_s is None or self._ahead.time_s <= at_s):
            chunk.append(self._ahead)
            self._ahead = next(self._source, None)
            if len(chunk) == size:
                self._observe(chunk)
                chunk = []
        if chunk:
            self._observe(chunk)

    def pause(self) -> None:
        """Clears the progress line, so that an answer can be written."""
        self._bar.clear()

    def summary(self) -> str:
        """What has been watched so far, in a line."""
        memory, watched_s = self._session.memory, self._session.time_s or 0.0
        pace = watched_s / max(time.perf_counter() - self._began_s, 1e-9)
        line = (
            f"{sum(self._session.log.counts.values())} frames, {memory.n_clear} clear, {memory.n_fuzzy} fuzzy, "
            f"{memory.host_bytes / 1e6:.1f} MB, {pace:.0f}x real time"
        )
        skipped = self._source.n_corrupt_packets
        forgotten = memory.n_forgotten
        return line + (f", {skipped} corrupt" if skipped else "") + (f", {forgotten} forgotten" if forgotten else "")

    def _observe(self, chunk: list[Any]) -> None:
        self._session.observe(chunk)
        self._bar.n = round(self._session.time_s or 0)
        self._bar.set_description_str(self.summary())


def _tell(session: Session, question: str, watch: _Watch, *, as_json: bool) -> None:
    watch.pause()
    answering = session.ask(question)
    if as_json:
        print(json.dumps(answer_json(answering.answer)), flush=True)
        return
    print(f"[{_clock(session.time_s or 0)}] {question}")
    for piece in answering:
        print(piece, end="", flush=True)
    print()
    for seen in answering.answer.evidence:
        span = _clock(seen.start_s) + (f"-{_clock(seen.end_s)}" if seen.end_s > seen.start_s else "")
        print(f"    {span}  {seen.fidelity}  {seen.score:.2f}")
    print(flush=True)


def answer_json(answer: Answer) -> dict[str, object]:
    """The JSON object that stands for an answer."""
    return {
        "question": answer.question,
        "answer": answer.text,
        "asked_at_s": answer.asked_at_s,
        "evidence": [asdict(seen) for seen in answer.evidence],
        "timings": asdict(answer.timings),
        "tokens": asdict(answer.tokens),
        "memory": asdict(answer.memory),
        "model": answer.model,
    }


def _clock(time_s: float) -> str:
    seconds = int(time_s)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


# --- the others -------------------------------------------------------------------------------------------------------


@main.command("models")
def _models() -> None:
    """List the model families, and the checkpoints of them on this machine."""
    from streamvlm.models.registry import FAMILIES, find_checkpoints

    print(f"families: {', '.join(FAMILIES)}")
    for found in find_checkpoints():
        print(f"{found.name:<24} {found.family:<10} {found.n_bytes / 1e6:6.1f} MB  {found.folder}")


@main.command("world")
@click.argument("seed", type=click.IntRange(min=0))
@click.option("--duration", default="5m", show_default=True, help="Its length in stream time.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.mp4")
@click.option("--questions", default=60, show_default=True, help="Most questions to write.")
def _world(seed: int, duration: str, out: Path, questions: int) -> None:
    """Write a synthetic video of known events, and beside it FILE.jsonl: its questions with their truths."""
    import numpy as np

    from streamvlm.world.events import make_world
    from streamvlm.world.video import draw_questions, write_questions, write_video

    duration_s = parse_time(duration)
    if not 10 <= duration_s <= 48 * 3600:
        raise UsageError(f"A world of {duration_s:g} s cannot be made; give a --duration of 10s to 48h.")
    world = make_world(seed, duration_s)
    with tqdm(total=100, unit="%", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        write_video(world, out, progress=lambda share: bar.update(int(share * 100) - bar.n))
    truths = out.with_suffix(".jsonl")
    asked = draw_questions(world, questions, np.random.default_rng([seed, 1]))
    write_questions(asked, truths)
    print(f"{out}: {duration_s:g} s, {len(world.appearances)} appearances; {truths}: {len(asked)} questions")


@main.command("calibrate")
@_model_option
@_device_option
@click.option("--seed", default=0, show_default=True, help="Of the synthetic stream.")
def _calibrate(model: str, device: str, seed: int) -> None:
    """Find a model's retrieval heads with needles in a synthetic stream, and keep them for its sessions."""
    from streamvlm.engine.calibration import calibrate, save_heads
    from streamvlm.models.registry import load_model

    loaded = load_model(model, device=device)
    report = calibrate(loaded, seed=seed)
    for rank in report.ranks[:8]:
        print(f"layer {rank.head.layer:>2} head {rank.head.head:>2}: right block first {rank.first:.0%}")
    print(
        "kept: "
        + ", ".join(f"layer {h.layer} head {h.head}" for h in report.heads)
        + f"; {save_heads(loaded, report.heads)}"
    )


@main.group("eval")
def _eval() -> None:
    """Measure accuracy, on the synthetic world or on photographs, as a table on stdout."""


@_eval.command("world")
@click.option("--streams", default=8, show_default=True, help="Held-out worlds to watch.")
@click.option("--duration", default="11m", show_default=True, help="Length of each, at 1 frame/s.")
@click.option("--questions", default=100, show_default=True, help="Questions asked of each.")
@click.option(
    "--variants",
    default="heads",
    show_default=True,
    help="Comma-separated: heads, mean-key, random, everything.",
)
@click.option("--top-k", default=8, show_default=True, metavar="BLOCKS")
@click.option("--misses", is_flag=True, help="List wrong answers on stderr.")
@_model_option
@_device_option
def _eval_world(
    streams: int,
    duration: str,
    questions: int,
    variants: str,
    top_k: int,
    misses: bool,
    model: str,
    device: str,
) -> None:
    """Ask held-out worlds about the present, the past, times, order, and what never appeared."""
    from streamvlm.engine import SessionConfig
    from streamvlm.evaluation.world_suite import run_world_suite, summarise
    from streamvlm.models.registry import load_model

    marked = run_world_suite(
        load_model(model, device=device), SessionConfig(top_k=top_k), seeds=range(streams),
        duration_s=parse_time(duration), n_questions=questions, names=variants.split(","),
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    for one in marked if misses else ():
        if not one.is_right:
            q = one.question
            print(
                f"{one.variant} {q.kind} at {q.ask_s:.0f} s: {q.text} -> {one.answer.text!r}, truth {q.truth!r}",
                file=sys.stderr,
            )
    print(json.dumps(summarise(marked), indent=1))


@_eval.command("photos")
@click.option(
    "--stamps", type=click.Path(path_type=Path), default=Path("/usr/share/tuxpaint/stamps"), show_default=True
)
@click.option(
    "--backgrounds",
    type=click.Path(path_type=Path),
    default=Path("/usr/share/backgrounds/gnome"),
    show_default=True,
)
@click.option("--misses", is_flag=True, help="List wrong answers on stderr.")
@_model_option
@_device_option
def _eval_photos(stamps: Path, backgrounds: Path, misses: bool, model: str, device: str) -> None:
    """Ask what photographs show, beside the trunk classifier's own top-1."""
    from streamvlm.evaluation.photo_suite import run_photo_suite
    from streamvlm.evaluation.photos import load_photo_set
    from streamvlm.models.registry import load_model

    marks = run_photo_suite(load_model(model, device=device), load_photo_set(stamps, backgrounds, 0))
    for mark in marks if misses else ():
        if not mark.is_right:
            print(
                f"{mark.name}: said {mark.said!r}, trunk {mark.trunk_said!r}, right {sorted(mark.accepted)}",
                file=sys.stderr,
            )
    right, trunk = sum(m.is_right for m in marks), sum(m.is_trunk_right for m in marks)
    print(
        json.dumps(
            {
                "pictures": len(marks),
                "right": right / len(marks),
                "trunk": trunk / len(marks),
                "ratio": right / max(trunk, 1),
            }
        )
    )


@main.group("bench")
def _bench() -> None:
    """Measure speed and memory, as ratios within one run, as JSON on stdout."""


@_bench.command("ttft")
@click.option("--duration", default="2h", show_default=True, help="Length of the stream.")
@_model_option
@_device_option
def _bench_ttft(duration: str, model: str, device: str) -> None:
    """Time to first token at two minutes and at the end of a long stream, and memory on the way."""
    from streamvlm.engine import SessionConfig
    from streamvlm.evaluation.bench_ttft import EARLY_S, bench_ttft
    from streamvlm.models.registry import load_model

    duration_s = int(parse_time(duration))
    if duration_s <= EARLY_S:
        raise UsageError(f"A stream of {duration_s} s has no late question; give a --duration above {EARLY_S} s.")
    report = bench_ttft(
        load_model(model, device=device), SessionConfig(), duration_s=duration_s,
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(json.dumps(report))
