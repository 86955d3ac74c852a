"""``streamvlm world``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from tqdm import tqdm

from streamvlm.cli.group import main
from streamvlm.cli.units import parse_time
from streamvlm.errors import UsageError


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
