"""The command line as a user meets it: real files, real processes, exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from remux import remux

from streamvlm.cli import main
from streamvlm.cli.units import parse_bytes, parse_time
from streamvlm.errors import UsageError
from streamvlm.world.events import make_world
from streamvlm.world.render import render
from streamvlm.world.video import draw_questions, write_video

ANSWER_KEYS = {
    *("question", "answer", "is_cut", "asked_at_s", "evidence", "timings", "tokens", "memory", "model", "warnings")
}


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_video(make_world(11, 40), path)
    return path


def test_asks_at_their_times_and_then_the_rest_as_json_and_nothing_else(clip: Path) -> None:
    done = run(
        "ask", str(clip), "--json", "--at", "0:30", "what do you see now?", "did you see a red circle?",
        "--at", "10", "which scene is this?",
    )  # fmt: skip
    assert done.exit_code == 0
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [round(t["asked_at_s"]) for t in told] == [10, 30, 39]
    assert [t["question"] for t in told] == [
        "which scene is this?",
        "what do you see now?",
        "did you see a red circle?",
    ]
    for t in told:
        assert set(t) == ANSWER_KEYS
        assert t["answer"]
        assert t["model"] == "pocket"
        assert t["warnings"] == []
        assert 0 < t["timings"]["ttft_s"] <= t["timings"]["total_s"]
        assert all(set(e) == {"start_s", "end_s", "fidelity", "score", "block_id"} for e in t["evidence"])
        assert all(e["start_s"] <= t["asked_at_s"] for e in t["evidence"])


def test_a_real_process_streams_the_answer_and_its_evidence(clip: Path, device: str) -> None:
    command = [sys.executable, "-m", "streamvlm", "ask", str(clip), "--for", "12", "--device", device]
    done = subprocess.run([*command, "what do you see now?"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0:00:12] what do you see now?\n")
    assert "clear" in done.stdout
    assert "13 frames" in done.stderr
    assert "real time" in done.stderr


def test_an_empty_text_file_named_mp4_exits_2_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    done = run("ask", str(tmp_path / "notes.mp4"), "what?")
    assert done.exit_code == 2
    _, told = done.stderr.splitlines()
    assert "notes.mp4" in told


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["ask", "missing.mp4", "what?"], "missing.mp4"),
        (["ask", "concat:a.mp4|b.mp4", "what?"], "concat"),
        (["ask", "CLIP"], "no question"),
        (["ask", "CLIP", "--at", "noon", "what?"], "noon"),
        (["ask", "CLIP", "--for", "5s", "--at", "9s", "what?"], "--for 5s"),
        (["ask", "CLIP", "what?", " "], "empty"),
        (["ask", "CLIP", "--at", "0:05", "what? " * 600], "shorter"),
        (["ask", "CLIP", "--fps", "0", "what?"], "fps"),
        (["ask", "CLIP", "--window", "0", "what?"], "window"),
        (["ask", "CLIP", "--top-k", "-3", "what?"], "top-k"),
        (["ask", "CLIP", "--policy", "psychic", "what?"], "choose from streamvlm, mean-key"),
        (["ask", "CLIP", "--memory-budget", "much", "what?"], "much"),
        (["ask", "CLIP", "--memory-budget", "10kB", "what?"], "budget"),
        (["ask", "CLIP", "--model", "no/such-model", "what?"], "no/such-model"),
        (["ask", "CLIP", "--model", "smolvlm2-256m", "what?"], "without weights"),
        (["ask", "CLIP", "--dtype", "float7", "what?"], "float7"),
        (["ask", "CLIP", "--device", "abacus", "what?"], "abacus"),
        (["ask", "CLIP", "--device", "cuda:77", "what?"], "cuda:77"),
        (["world", "1", "--duration", "1s", "--out", "w.mp4"], "duration"),
        (["world", "1", "--duration", "10s", "--out", "no/such/folder/w.mp4"], "no/such/folder"),
        (["eval", "world", "--policy", "streamvlm,psychic"], "choose from streamvlm, mean-key"),
        (["eval", "world", "--policy", ""], "choose from streamvlm, mean-key"),
        (["eval", "world", "--disk-codec", "int8,zip"], "zip"),
        (["bench", "ttft", "--duration", "10s"], "duration"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_each_mistake_gets_one_sentence_and_exit_code_2(args: list[str], named: str, clip: Path) -> None:
    done = run(*(str(clip) if arg == "CLIP" else arg for arg in args))
    assert done.exit_code == 2
    assert done.stdout == ""
    *working, told = done.stderr.splitlines()
    assert all(line.startswith(("streamvlm: loading ", "streamvlm: watching ")) for line in working), done.stderr
    assert named in told


def test_one_picture_is_one_frame_and_has_no_pace(tmp_path: Path) -> None:
    Image.fromarray(render(make_world(11, 40), 0.0)).save(tmp_path / "one.png")
    done = run("ask", str(tmp_path / "one.png"), "what do you see now?")
    assert done.stderr.splitlines()[-1].startswith("1 frame, 1 clear, 0 fuzzy, ")
    assert "real time" not in done.stderr


def test_a_question_beyond_the_end_is_asked_there_and_says_so(clip: Path) -> None:
    done = run("ask", str(clip), "--at", "9:59", "what do you see now?", "--at", "0:05", "what do you see now?")
    assert done.exit_code == 0
    (warned,) = [line for line in done.stderr.splitlines() if "ended" in line]
    assert "before 0:09:59" in warned


def test_times_a_tick_before_whole_seconds_are_told_as_whole_seconds(clip: Path, tmp_path: Path) -> None:
    exact = remux(clip, tmp_path / "exact.ts")
    early = remux(clip, tmp_path / "early.ts", early_ticks=1)
    when = [q.text for q in draw_questions(make_world(11, 40), 20, np.random.default_rng(0)) if q.kind == "when"]
    questions = ["--at", "0:10", "what do you see now?", *when]
    of_exact, of_early = (run("ask", str(path), *questions) for path in (exact, early))
    assert of_early.stdout == of_exact.stdout
    assert of_exact.stdout.startswith("[0:00:10]")
    assert "\nat 0:00:" in of_exact.stdout


def test_world_writes_a_video_and_its_questions(tmp_path: Path) -> None:
    done = run("world", "5", "--duration", "60s", "--out", str(tmp_path / "w.mp4"), "--questions", "12")
    assert done.exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert {"kind", "text", "ask_s", "truth", "start_s", "end_s"} <= set(lines[0])
    assert (tmp_path / "w.mp4").stat().st_size > 10_000


def test_models_lists_the_bundled_one_and_what_the_hub_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"family": "pocket"}))
    broken = tmp_path / "models--someone--broken" / "snapshots" / "1"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    done = run("models")
    assert "someone/broken           damaged" in done.stdout
    assert done.exit_code == 0
    assert "families: pocket" in done.stdout
    assert "someone/tiny" in done.stdout


def test_models_tells_what_an_hour_takes_before_there_are_weights() -> None:
    done = run("models", "llava-onevision-7b")
    assert done.exit_code == 0
    assert "bfloat16: 28 layers of 4 KV heads of 128" in done.stdout
    assert "clear: 206 tokens, 11.27 MiB a frame, 39.6 GiB an hour" in done.stdout  # 2 x 28 x 4 x 128 x 2 B x 206
    assert "fuzzy: 59 tokens, 3.23 MiB a frame, 11.3 GiB an hour" in done.stdout
    listed = run("models").stdout
    assert "transformers" in listed
    assert "llava-onevision-7b" in listed


@pytest.mark.parametrize("name", ["no/such-model", "parrot-7b"])
def test_models_refuses_a_name_that_it_cannot_look_up(name: str) -> None:
    done = run("models", name)
    assert done.exit_code == 2
    assert f"no model {name!r}" in done.stderr


def test_help_teaches_every_command() -> None:
    examples = [line for line in run("--help").stdout.splitlines() if line.startswith("    streamvlm ")]
    assert len(examples) == 4, "each on a line of its own"
    ask = run("ask", "--help").stdout
    for word in ("SOURCE", "--at", "--json", "--model", "--fps", "--window", "--top-k", "--memory-budget", "--device"):
        assert word in ask


@pytest.mark.parametrize(
    ("text", "seconds"), [("42", 42), ("42.5s", 42.5), ("5m", 300), ("2h", 7200), ("0:42", 42), ("1:02:03.5", 3723.5)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("1000", 1000), ("256MB", 256_000_000), ("1.5GiB", 3 << 29), ("64 k", 64_000)]
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "x", "1:2", "-3", "5 minutes", "1e9"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)
