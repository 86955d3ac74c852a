"""Memory on disk from the command line: one process watches, others ask, look, check and mend."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamvlm.archive.diary import Diary
from streamvlm.cli import main
from streamvlm.memory.disk.catalog import Catalog
from streamvlm.world.events import World, make_world
from streamvlm.world.video import write_video

DURATION_S = 60


def run(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False, input=stdin)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(12, DURATION_S)


@pytest.fixture(scope="module")
def clip(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(world, path)
    return path


@pytest.fixture(scope="module")
def watched(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memories") / "one"
    assert run("ask", clip, "--memory", folder, "what do you see now?").exit_code == 0
    return folder


def test_another_process_answers_from_what_was_watched(
    clip: Path, watched: Path, world: World, tmp_path: Path, device: str
) -> None:
    question = f"where was the {world.appearances[0].thing.name}?"
    twin = shutil.copytree(watched, tmp_path / "twin")  # what is asked becomes part of a memory's dialogue
    command = [sys.executable, "-m", "streamvlm", "ask", "-", "--memory", str(watched), "--device", device, "--json"]
    done = subprocess.run([*command, question], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    fresh = json.loads(run("ask", clip, "--json", "what do you see now?", question).stdout.splitlines()[1])
    assert told["answer"] == fresh["answer"]
    assert told["asked_at_s"] == fresh["asked_at_s"]
    here = json.loads(run("ask", "-", "--memory", twin, "--json", question).stdout)
    assert told["evidence"], "and to the last bit of every share of attention, whichever process asks:"
    assert [here["answer"], here["evidence"]] == [told["answer"], told["evidence"]]
    assert told["memory"]["n_blocks"] == fresh["memory"]["n_blocks"] == told["memory"]["disk"]["n_blocks"]


def test_what_was_watched_under_one_policy_is_asked_under_any(watched: Path, tmp_path: Path) -> None:
    read = {}
    for policy in ("streamvlm", "mean-key", "everything"):
        twin = shutil.copytree(watched, tmp_path / policy)
        done = run("ask", "-", "--memory", twin, "--policy", policy, "--json", "did you see a red circle?")
        assert done.exit_code == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["answer"]
        read[policy] = told["tokens"]["context"]
    assert max(read, key=lambda policy: read[policy]) == "everything"


def test_a_second_source_goes_on_with_the_stream(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mem"
    for _ in range(2):
        done = run("ask", clip, "--for", "20", "--memory", folder, "--json", "what do you see now?")
        assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["asked_at_s"] > 40
    at_5 = run("ask", clip, "--memory", folder, "--json", "--at", "0:05", "what do you see now?")
    assert json.loads(at_5.stdout)["asked_at_s"] == pytest.approx(told["asked_at_s"] + 6, abs=1)


def test_ls_show_verify_repair_and_rm(watched: Path, tmp_path: Path) -> None:
    assert str(watched) in run("memory", "ls", watched.parent).stdout
    shown = run("memory", "show", watched).stdout
    assert "what do you see now?" in shown
    assert "0:00:00 to 0:00:59" in shown
    assert "raw" in shown
    assert "0 are damaged" in run("memory", "verify", watched).stdout
    (watched / "catalog.db").write_bytes(b"nonsense" * 1000)
    refused = run("memory", "show", watched)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "memory repair" in refused.stderr
    assert "0 damaged" in run("memory", "repair", watched).stdout
    assert run("ask", "-", "--memory", watched, "what do you see now?").exit_code == 0


@pytest.mark.parametrize("harm", ["UPDATE blocks SET slot = 'x' WHERE id = 3", "ALTER TABLE blocks RENAME TO lost"])
def test_damage_deep_inside_the_catalog_is_one_sentence_whoever_looks(watched: Path, tmp_path: Path, harm: str) -> None:
    folder = shutil.copytree(watched, tmp_path / "harmed")
    (folder / "catalog.db").unlink()
    assert run("memory", "repair", folder).exit_code == 0
    with closing(sqlite3.connect(folder / "catalog.db")) as database, database:
        database.execute(harm)
    for args in (["memory", "show", folder], ["memory", "verify", folder], ["ask", "-", "--memory", folder, "what?"]):
        refused = run(*args)
        *working, told = refused.stderr.splitlines()
        assert (refused.exit_code, working in ([], ["streamvlm: loading pocket"])) == (2, True)
        assert "memory repair" in told
    assert run("memory", "repair", folder).exit_code == 0
    assert "0 are damaged" in run("memory", "verify", folder).stdout


def test_ls_goes_on_past_a_memory_that_it_cannot_look_into(tmp_path: Path) -> None:
    with closing(Catalog(tmp_path)), closing(Diary(tmp_path)):
        pass  # of a memory in which nothing is remembered yet
    config = {"codec": "raw", "budget_bytes": 16 << 20, "flush_every_s": 2.0}
    card = {"format_version": 2, "model": "m", "fingerprint": "f", "layout": "l", "created_unix_s": 0, "config": config}
    older, damaged, sound = (tmp_path / name for name in ("a-older", "b-damaged", "c-sound"))
    for folder in (older, damaged, sound):
        folder.mkdir()
        shutil.copy(tmp_path / "diary.db", folder)
        shutil.copy(tmp_path / "catalog.db", folder)
        (folder / "session.json").write_text(json.dumps(card))
    (older / "session.json").write_text(json.dumps(card | {"format_version": 1}))
    (damaged / "catalog.db").write_bytes(b"nonsense" * 1000)
    listed = run("memory", "ls", tmp_path)
    assert listed.exit_code == 0
    of_older, of_damaged, of_sound = listed.stdout.splitlines()
    assert str(older) in of_older
    assert "format version 1" in of_older
    assert str(damaged) in of_damaged
    assert "memory repair" in of_damaged
    assert f"{sound}  m  0:00:00 of stream  0 blocks" in of_sound


def test_a_damaged_block_is_found_and_told(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mem"
    run("ask", clip, "--for", "20", "--memory", folder, "what do you see now?")
    (segment, *_) = sorted(folder.glob("seg-*.kv"))
    with segment.open("r+b") as file:
        file.seek(4096 * 3 + 100)
        file.write(b"damage")
    found = run("memory", "verify", folder)
    assert found.exit_code == 2
    assert "1 are damaged" in found.stdout


def test_rm_asks_first_and_removes_memories_only(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mem"
    run("ask", clip, "--for", "3", "--memory", folder, "what do you see now?")
    assert "stays" in run("memory", "rm", folder, stdin="n\n").stdout
    assert folder.exists()
    assert run("memory", "rm", folder, "--yes").exit_code == 0
    assert not folder.exists()
    (tmp_path / "photos").mkdir()
    refused = run("memory", "rm", tmp_path / "photos", "--yes")
    assert refused.exit_code == 2
    assert (tmp_path / "photos").exists()


def test_an_rm_that_the_disk_refuses_is_one_sentence(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    folder = shutil.copytree(watched, tmp_path / "twin")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        refused = run("memory", "rm", folder, "--yes")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "Read-only file system" in refused.stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["ask", "-", "what?"], "--memory"),
        (["ask", "-", "--memory", "EMPTY", "what?"], "--memory"),
        (["memory", "ls", "EMPTY"], "no memory"),
        (["memory", "show", "EMPTY"], "no memory"),
        (["ask", "CLIP", "--memory", "/proc/x", "what?"], "--memory"),
        (["ask", "CLIP", "--memory", "EMPTY", "--flush-every", "0", "what?"], "flush"),
        (["ask", "CLIP", "--memory", "EMPTY", "--disk-budget", "1", "what?"], "disk budget"),
    ],
)
def test_each_mistake_gets_one_sentence(args: list[str], named: str, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "CLIP": clip}
    done = run(*(places.get(arg, arg) for arg in args))
    assert done.exit_code == 2
    *working, told = done.stderr.splitlines()
    assert working in ([], ["streamvlm: loading pocket"])
    assert named in told


def end_while_watching(clip: Path, folder: Path, number: signal.Signals, device: str) -> tuple[int, str]:
    """Sends a watcher a signal when it has begun to write: its exit code, and what it said on stderr."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "streamvlm", "ask", str(clip), "--memory", str(folder), "--device", device, "what?"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(folder.glob("seg-*.kv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    watcher.send_signal(number)
    _, said = watcher.communicate()
    return watcher.returncode, said


def test_an_interrupted_watcher_says_so_answers_and_keeps_what_it_has_seen(
    clip: Path, tmp_path: Path, device: str
) -> None:
    folder = tmp_path / "mem"
    code, said = end_while_watching(clip, folder, signal.SIGINT, device)
    assert code == 0, said
    assert "Ctrl+C ended the watching" in said
    assert run("ask", "-", "--memory", folder, "what do you see now?").exit_code == 0


def test_a_killed_watcher_leaves_a_memory_that_answers(clip: Path, tmp_path: Path, device: str) -> None:
    folder = tmp_path / "mem"
    assert end_while_watching(clip, folder, signal.SIGKILL, device)[0] == -signal.SIGKILL
    assert "0 are damaged" in run("memory", "verify", folder).stdout
    asked = run("ask", "-", "--memory", folder, "what do you see now?")
    assert asked.exit_code == 0 or "Without a source" in asked.stderr, (
        "killed before its first commit, it remembers nothing"
    )
