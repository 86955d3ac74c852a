"""What is imported: a few public names from ``streamvlm``, and no slow library where no model is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from documents import python_example

import streamvlm
from streamvlm.world.events import World
from streamvlm.world.video import write_video

SLOW = ("av", "cv2", "faiss", "huggingface_hub", "numpy", "PIL", "scipy", "torch", "transformers")
"""Libraries that take a tenth of a second and more to load, some of them many."""


def slow_libraries_of(program: str) -> set[str]:
    """Returns which of them a program has loaded at its end, in a process of its own."""
    command = [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"]
    *_, loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return set(SLOW) & set(loaded.split())


@pytest.mark.parametrize(
    "words",
    ["--help", "models", "ask --help", "memory ls --help", "serve --help", "watch --help", "world --help"],
)
def test_a_command_that_needs_no_model_loads_no_slow_library(words: str) -> None:
    command = f"from streamvlm.cli import main; main({words.split()}, standalone_mode=False)"
    assert slow_libraries_of(command) == set()


def test_the_package_loads_no_slow_library_until_a_name_that_needs_one_is_used() -> None:
    assert slow_libraries_of("import streamvlm; dir(streamvlm)") == set()
    assert "torch" in slow_libraries_of("from streamvlm import Session")


@pytest.mark.parametrize("name", streamvlm.__all__)
def test_every_public_name_is_listed_and_there(name: str) -> None:
    assert name in dir(streamvlm)
    assert getattr(streamvlm, name).__name__ == name


def test_what_is_no_public_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="Sesion"):
        getattr(streamvlm, "Sesion")  # noqa: B009


def test_the_library_example_of_the_readme_runs_as_it_stands(
    tmp_path: Path, world: World, device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(world, tmp_path / "demo.mp4")
    monkeypatch.chdir(tmp_path)
    example = python_example("from streamvlm import Session")
    exec(example.replace('load_model("pocket")', f'load_model("pocket", device={device!r})'))
    assert "start_s=" in capsys.readouterr().out
