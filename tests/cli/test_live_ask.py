"""`streamvlm ask` of cameras that stall, drop or are watched until Ctrl+C: real processes, sockets and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result
from remux import remux
from rtsp_camera import hang_up, rtsp_camera, send_sound

from streamvlm.cli import main
from streamvlm.cli.interrupts import Interrupts
from streamvlm.world.events import make_world
from streamvlm.world.video import write_video

NOW = "what do you see now?"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same twelve seconds in several containers."""
    folder = tmp_path_factory.mktemp("clips")
    write_video(make_world(11, 12), folder / "clip.mp4")
    return {kind: remux(folder / "clip.mp4", folder / f"clip.{kind}") for kind in ("ts", "mkv")}


@pytest.fixture(scope="module")
def pictures(clips: dict[str, Path]) -> bytes:
    return clips["ts"].read_bytes()


@contextmanager
def asking(device: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A process that asks."""
    command = [sys.executable, "-m", "streamvlm", "ask", "--device", device, *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(line: str, said: IO[str] | None) -> None:
    assert said is not None
    assert any(line in one for one in said), f"it has not said {line!r}"


def test_a_signal_ends_the_watching_of_a_silent_camera_and_a_second_one_quits(pictures: bytes, device: str) -> None:
    many = [f"did you see a dog at {n}?" for n in range(300)]
    early = ("--at", "2", NOW)
    with (
        rtsp_camera(pictures, send_sound, send_sound) as camera,
        asking(device, camera.url, *early, "--at", "9:00", "was it red?", "where is it?") as once,
        asking(device, camera.url, *early, *many) as twice,
    ):
        wait_for(NOW, once.stdout)  # it is in the midst of watching
        once.send_signal(signal.SIGINT)
        wait_for(NOW, twice.stdout)
        twice.send_signal(signal.SIGTERM)
        wait_for("SIGTERM ended the watching", twice.stderr)
        twice.send_signal(signal.SIGTERM)
        answers, said = once.communicate()
        assert once.returncode == 0, said
        asked = [line.partition("] ")[2] for line in answers.splitlines() if line.startswith("[")]
        assert asked == ["was it red?", "where is it?"]
        assert "Ctrl+C ended the watching" in said
        assert "showed nothing" not in said, "it did not have to wait for the camera"
        answers, _ = twice.communicate()
        assert twice.returncode == 143
        assert answers.count("dog") < len(many)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_only_the_first_signal_stops_and_all_are_given_back(number: signal.Signals, code: int | None) -> None:
    before, stopped = signal.getsignal(number), []
    with Interrupts(lambda: stopped.append(1)) as interrupts:
        signal.raise_signal(number)
        assert (stopped, interrupts.came) == ([1], number)
        with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
            signal.raise_signal(number)
    assert getattr(ended.value, "code", None) == code
    assert stopped == [1]
    assert signal.getsignal(number) is before


def test_a_camera_that_drops_is_answered_about_with_an_exit_code_of_its_own(pictures: bytes) -> None:
    with rtsp_camera(pictures, hang_up) as camera:
        done = run("ask", camera.url, "--reconnect", "0", "--json", "--at", "3", NOW, "--at", "5:00", NOW, NOW)
    assert done.exit_code == 3
    early, *rest = map(json.loads, done.stdout.splitlines())
    assert early["warnings"] == []
    for told in rest:
        (warning,) = told["warnings"]
        assert warning.startswith(
            f"Nothing has come from {camera.url} since 0:11 ("
        )  # the last picture that was sampled
        assert told["answer"]
        assert warning in done.stderr
    assert done.stderr.count("Nothing has come") == 1
    assert len(rest) == 2


def test_a_camera_that_never_answers_is_an_error_as_ever() -> None:
    with rtsp_camera(b"", hang_up) as camera:
        done = run("ask", camera.url, NOW)
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_video_that_ends_early_is_answered_with_a_warning(clips: dict[str, Path], tmp_path: Path) -> None:
    file, cut = clips["mkv"], tmp_path / "cut.mkv"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    done = run("ask", str(cut), "--json", NOW)
    assert done.exit_code == 0
    (warning,) = json.loads(done.stdout)["warnings"]
    assert warning.startswith(f"{cut} ended at 0:0")
    assert " of 0:12; the rest is missing" in warning
    assert f"streamvlm: {warning}" in done.stderr.splitlines()


def test_a_video_stream_that_is_not_there_is_refused(clips: dict[str, Path]) -> None:
    refused = run("ask", str(clips["mkv"]), "--stream", "1", NOW)
    assert refused.exit_code == 2
    assert "no video stream 1; choose of 0" in refused.stderr
