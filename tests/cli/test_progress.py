"""What `ask` says while it works: at once, and then that it still does."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamvlm.cli.progress import ProgressLines


def test_ask_says_what_it_does_before_it_loads_what_takes_long(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit(77)")  # found before the real one
    (tmp_path / "clip.mp4").write_bytes(b"video")
    done = subprocess.run(
        [sys.executable, "-c", "from streamvlm.cli.ask import _ask; _ask()", "clip.mp4", "what?"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (77, "streamvlm: loading pocket\n")


def test_a_file_that_is_not_there_is_told_before_anything_is_loaded(tmp_path: Path, device: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamvlm", "ask", str(tmp_path / "missing.mp4"), "--device", device, "what?"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "loading" not in done.stderr


def test_long_work_is_told_of_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked = threading.Semaphore(0)

    def how_far() -> str:
        asked.release()
        return "half of it"

    with ProgressLines("loading", every_s=0.01) as progress:
        progress.begin("watching", how_far)
        for _ in range(3):
            assert asked.acquire(timeout=30)
    told = [line for line in capsys.readouterr().err.splitlines() if "for 0:00:00 now" not in line]
    assert told[:2] == ["streamvlm: loading", "streamvlm: watching"]
    assert set(told[2:]) == {"streamvlm: half of it"}


def test_short_work_is_told_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLines("loading") as progress:
        progress.go_on("answering")
    assert capsys.readouterr().err == "streamvlm: loading\n"
