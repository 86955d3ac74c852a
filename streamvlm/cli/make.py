"""``streamvlm models``, ``world`` and ``calibrate``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from streamvlm.cli.group import device_option, dtype_option, main, model_option
from streamvlm.cli.units import parse_time
from streamvlm.errors import UsageError


@main.command("models")
@click.argument("name", required=False)
def _models(name: str | None) -> None:
    """List the model families and the checkpoints on this machine; with NAME, what a stream's memory takes.

    NAME is a directory, a hub name, or one of the configurations that come along; no weights are needed.
    """
    from importlib.metadata import requires, version

    from streamvlm.models.checkpoints import CONFIGS, FAMILIES, find_checkpoints

    if name is not None:
        _tell_footprint(name)
        return
    tested = next(line for line in requires("streamvlm") or () if line.startswith("transformers"))
    print(f"families: {', '.join(FAMILIES)}; tested with {tested}, here is {version('transformers')}")
    print(f"configurations without weights: {', '.join(sorted(path.name for path in CONFIGS.iterdir()))}")
    for found in find_checkpoints():
        print(f"{found.name:<24} {found.family:<10} {found.n_bytes / 1e6:6.1f} MB  {found.folder}")


def _tell_footprint(name: str) -> None:
    from streamvlm.models.registry import footprint_of

    for dtype in ("float32", "bfloat16"):
        frame = footprint_of(name, dtype)
        layout = frame.layout
        print(f"{name}, {dtype}: {layout.n_layers} layers of {layout.n_kv_heads} KV heads of {layout.head_dim}")
        for fidelity, n_tokens in (("clear", frame.clear_tokens), ("fuzzy", frame.fuzzy_tokens)):
            n_bytes = n_tokens * layout.token_bytes
            print(
                f"  {fidelity}: {n_tokens} tokens, {n_bytes / 2**20:.2f} MiB a frame, "
                f"{3600 * n_bytes / 2**30:.1f} GiB an hour at 1 frame/s if all were kept so"
            )


@main.command("world")
@click.argument("seed", type=click.IntRange(min=0))
@click.option("--duration", default="5m", show_default=True, help="Its length in stream time.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.mp4")
@click.option("--questions", default=60, show_default=True, help="Most questions to write.")
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Show photographs too: the stamps folder of the Debian package tuxpaint-stamps-default.",
)
@click.option(
    "--backdrops",
    type=click.Path(path_type=Path),
    default=Path("/usr/share/backgrounds/gnome"),
    show_default=True,
    metavar="DIR",
    help="What lies behind them: the package gnome-backgrounds.",
)
def _world(seed: int, duration: str, out: Path, questions: int, photos: Path | None, backdrops: Path) -> None:
    """Write a synthetic video of known events, and beside it FILE.jsonl: its questions with their truths."""
    import numpy as np

    from streamvlm.world.events import make_world, with_photos
    from streamvlm.world.photos import load_photo_set
    from streamvlm.world.video import draw_questions, write_questions, write_video

    duration_s = parse_time(duration)
    if not 10 <= duration_s <= 48 * 3600:
        raise UsageError(f"A world of {duration_s:g} s cannot be made; give a --duration of 10s to 48h.")
    world = make_world(seed, duration_s)
    cases = load_photo_set(photos, backdrops, seed) if photos else []
    world = with_photos(world, {case.name: case.words for case in cases})
    pictures = {case.name: case.picture for case in cases}
    with tqdm(total=100, unit="%", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        write_video(world, out, photos=pictures, progress=lambda share: bar.update(int(share * 100) - bar.n))
    truths = out.with_suffix(".jsonl")
    asked = draw_questions(world, questions, np.random.default_rng([seed, 1]))
    write_questions(asked, truths)
    shown = f"{len(world.appearances)} appearances, {len(world.photos)} photographs"
    print(f"{out}: {duration_s:g} s, {shown}; {truths}: {len(asked)} questions")


@main.command("calibrate")
@model_option
@device_option
@dtype_option
@click.option("--seed", default=0, show_default=True, help="Of the synthetic stream.")
def _calibrate(model: str, device: str, dtype: str, seed: int) -> None:
    """Find a model's retrieval heads with needles in a synthetic stream, and keep them for its sessions."""
    from streamvlm.engine.calibration import calibrate, save_calibration
    from streamvlm.models.registry import load_model

    loaded = load_model(model, device=device, dtype=dtype)
    report = calibrate(loaded, seed=seed)
    for rank in report.ranks[:8]:
        print(f"layer {rank.head.layer:>2} head {rank.head.head:>2}: right block first {rank.first:.0%}")
    print(
        "kept: "
        + ", ".join(f"layer {h.layer} head {h.head}" for h in report.heads)
        + f"; {save_calibration(loaded, report)}"
    )
