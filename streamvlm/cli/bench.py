"""``streamvlm bench``."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path

import click

from streamvlm.cli.group import device_option, dtype_option, main, model_option, warn
from streamvlm.cli.units import parse_bytes, parse_time
from streamvlm.errors import UsageError


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
    from streamvlm.archive.archive import Archive, ArchiveConfig
    from streamvlm.evaluation.benchmarks.ttft import EARLY_S, bench_ttft
    from streamvlm.models.registry import load_model
    from streamvlm.session.config import SessionConfig

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
    from streamvlm.evaluation.benchmarks.store import bench_store

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
    from streamvlm.evaluation.benchmarks.encode import bench_encode
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
    from streamvlm.evaluation.benchmarks.serve import Load, bench_serve
    from streamvlm.models.registry import load_model

    load = Load(sessions, int(parse_time(duration)), parse_time(every))
    if sessions < 1 or load.question_every_s <= 0 or load.duration_s <= load.question_every_s:
        raise UsageError("Nothing would be asked; give at least one session and a longer --duration.")
    print(json.dumps(bench_serve(load_model(model, device=device), load, progress=warn), indent=1))
