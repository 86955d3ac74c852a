"""``streamvlm eval`` and ``streamvlm bench``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import click

from streamvlm.cli.group import device_option, dtype_option, main, model_option, warn
from streamvlm.cli.units import parse_bytes, parse_time
from streamvlm.errors import UsageError


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
    help="Comma-separated: heads, mean-key, random, everything, or on disk as raw, int8, int4.",
)
@click.option("--top-k", default=8, show_default=True, metavar="BLOCKS")
@click.option("--misses", is_flag=True, help="List wrong answers on stderr.")
@click.option("--markdown", is_flag=True, help="Print the table of the model card instead of JSON.")
@model_option
@device_option
@dtype_option
def _eval_world(
    streams: int,
    duration: str,
    questions: int,
    variants: str,
    top_k: int,
    misses: bool,
    markdown: bool,
    model: str,
    device: str,
    dtype: str,
) -> None:
    """Ask held-out worlds about the present, the past, times, order, and what never appeared."""
    from streamvlm.engine import SessionConfig
    from streamvlm.evaluation.world_suite import as_markdown, run_world_suite, summarise
    from streamvlm.models.registry import load_model

    marked = run_world_suite(
        load_model(model, device=device, dtype=dtype), SessionConfig(top_k=top_k), seeds=range(streams),
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
    report = summarise(marked)
    print(as_markdown(report) if markdown else json.dumps(report, indent=1))


@_eval.command("standing")
@click.option("--streams", default=8, show_default=True, help="Held-out worlds to watch.")
@click.option("--duration", default="11m", show_default=True, help="Length of each, at 1 frame/s.")
@click.option("--questions", default=8, show_default=True, help="Standing questions armed in each.")
@click.option("--form", default="did you see a {name}?", show_default=True, help="What is asked of the frame of now.")
@click.option("--threshold", default=0.8, show_default=True, help="Probability of yes at which it fires.")
@click.option("--release", default=0.3, show_default=True, help="Probability at which it may fire again.")
@click.option("--every", "every_s", default=1.0, show_default=True, help="Seconds of stream between checks, at most.")
@click.option("--cool-down", "cool_down_s", default=5.0, show_default=True, help="Seconds of rest after firing.")
@model_option
@device_option
@dtype_option
def _eval_standing(
    streams: int, duration: str, questions: int, form: str, threshold: float, release: float, every_s: float,
    cool_down_s: float, model: str, device: str, dtype: str,
) -> None:  # fmt: skip
    """Let held-out worlds tell when things appear: how soon, and with how many false alarms."""
    from streamvlm.engine import StandingQuestion
    from streamvlm.evaluation.standing_suite import run_standing_suite, summarise
    from streamvlm.models.registry import load_model

    duration_s = parse_time(duration)
    watches = run_standing_suite(
        load_model(model, device=device, dtype=dtype),
        StandingQuestion(form, threshold, release, every_s, cool_down_s),
        seeds=range(streams), duration_s=duration_s, n_questions=questions,
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(json.dumps(summarise(watches, streams * duration_s / 3600), indent=1))


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
@model_option
@device_option
@dtype_option
def _eval_photos(stamps: Path, backgrounds: Path, misses: bool, model: str, device: str, dtype: str) -> None:
    """Ask what photographs show, beside the trunk classifier's own top-1."""
    from streamvlm.evaluation.photo_suite import run_photo_suite
    from streamvlm.models.registry import load_model
    from streamvlm.world.photos import load_photo_set

    marks = run_photo_suite(load_model(model, device=device, dtype=dtype), load_photo_set(stamps, backgrounds, 0))
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
@click.option("--memory-budget", default="512MiB", show_default=True, metavar="BYTES", help="RAM for blocks.")
@click.option(
    "--memory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Remember on disk in DIR, which must be new.",
)
@click.option("--disk-budget", default="4GiB", show_default=True, metavar="BYTES", help="Most bytes in DIR.")
@model_option
@device_option
@dtype_option
def _bench_ttft(
    duration: str, memory_budget: str, memory: Path | None, disk_budget: str, model: str, device: str, dtype: str
) -> None:
    """Time to first token early and at the end of a long stream, and what is held on the way."""
    from streamvlm.engine import Archive, ArchiveConfig, SessionConfig
    from streamvlm.evaluation.bench_ttft import EARLY_S, bench_ttft
    from streamvlm.models.registry import load_model

    duration_s = int(parse_time(duration))
    if duration_s < 2 * EARLY_S[0]:
        raise UsageError(f"A stream of {duration_s} s has no late question; give a --duration of {2 * EARLY_S[0]} s.")
    if memory is not None and memory.exists():
        raise UsageError(f"{memory} is there already; give a --memory folder that is new.")
    loaded = load_model(model, device=device, dtype=dtype)
    with ExitStack() as opened:
        archive = None
        if memory is not None:
            settings = ArchiveConfig(budget_bytes=parse_bytes(disk_budget))
            archive = opened.enter_context(closing(Archive(memory, loaded, settings, on_event=warn)))
        report = bench_ttft(
            loaded, SessionConfig(host_budget_bytes=parse_bytes(memory_budget)), duration_s=duration_s,
            progress=warn, archive=archive,
        )  # fmt: skip
    print(json.dumps(report))


@_bench.command("store")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("."),
    show_default=True,
    help="On the disk to measure.",
)
@click.option("--block", "block_bytes", default="64KiB", show_default=True, metavar="BYTES", help="Size of a block.")
@click.option("--total", "total_bytes", default="512MiB", show_default=True, metavar="BYTES", help="Of all blocks.")
def _bench_store(folder: Path, block_bytes: str, total_bytes: str) -> None:
    """The disk tier beside plain reads and writes of the same bytes on the same disk."""
    from streamvlm.evaluation.bench_store import bench_store

    report = bench_store(folder, block_bytes=parse_bytes(block_bytes), total_bytes=parse_bytes(total_bytes))
    print(json.dumps(report, indent=1))


@_bench.command("encode")
@click.option(
    "--config-only",
    "name",
    required=True,
    metavar="NAME",
    help="A configuration that comes along (see `streamvlm models`), a directory or a hub name; weights are random.",
)
@click.option("--chunk", default=4, show_default=True, help="Frames seen and prefilled together.")
@click.option("--retrieved", default=64, show_default=True, help="Frames fetched for a question.")
@click.option("--repeats", default=5, show_default=True, help="Times that each thing is measured; medians are told.")
@device_option
@dtype_option
def _bench_encode(name: str, chunk: int, retrieved: int, repeats: int, device: str, dtype: str) -> None:
    """Frames a second of a family at its true size, its share of the machine's matrix product, and time to answer."""
    from streamvlm.evaluation.bench_encode import bench_encode
    from streamvlm.models.registry import find_device, find_dtype

    if min(chunk, retrieved, repeats) < 1:
        raise UsageError("Nothing can be measured with none; give --chunk, --retrieved and --repeats of at least 1.")
    where = find_device(device)
    report = bench_encode(
        name, device=where, dtype=find_dtype(dtype, where), chunk_frames=chunk, n_retrieved=retrieved, repeats=repeats
    )
    print(json.dumps(report, indent=1))


@_bench.command("serve")
@click.option("--sessions", default=4, show_default=True, help="Live sessions at once, each at 1 frame/s.")
@click.option("--duration", default="1m", show_default=True, help="How long they are watched.")
@click.option("--every", default="5s", show_default=True, help="Time from one question, anywhere, to the next.")
@model_option
@device_option
def _bench_serve(sessions: int, duration: str, every: str, model: str, device: str) -> None:
    """A server under live load, beside the same questions asked of the library alone."""
    from streamvlm.evaluation.bench_serve import Load, bench_serve
    from streamvlm.models.registry import load_model

    load = Load(sessions, int(parse_time(duration)), parse_time(every))
    if sessions < 1 or load.question_every_s <= 0 or load.duration_s <= load.question_every_s:
        raise UsageError("Nothing would be asked; give at least one session and a longer --duration.")
    print(json.dumps(bench_serve(load_model(model, device=device), load, progress=warn), indent=1))
