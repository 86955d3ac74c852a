"""Real families from the command line and over an hour of stream, on tiny checkpoints."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from fabricate import FAMILIES, fabricate
from pairs import pictures

from streamvlm.archive.archive import Archive
from streamvlm.calibration import calibrate as calibration
from streamvlm.cli import main
from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.models.registry import load_model
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import make_world
from streamvlm.world.video import write_video


@pytest.fixture(scope="module", params=list(FAMILIES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate(request.param, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where calibrations are kept, which here take one short stream."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_N_WORLDS", 1)
    monkeypatch.setattr(calibration, "_WORLD_S", 120.0)
    return tmp_path / "cache"


def test_a_directory_answers_questions_about_a_clip(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(make_world(11, 20), clip)
    args = ["ask", str(clip), "--json", "--model", str(checkpoint), "what is there?", "and before <image> that?"]
    done = CliRunner().invoke(main, args, catch_exceptions=False)
    assert done.exit_code == 0
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["model"] == str(checkpoint)
    assert first["answer"]
    assert second["tokens"]["context"] >= first["tokens"]["context"] + first["tokens"]["answer"]
    (kept,) = cache.glob("streamvlm/calibration/*.json")
    assert set(json.loads(kept.read_text())) == {"heads", "noise_floor"}


def calibrated(checkpoint: Path, device: str) -> VideoLanguageModel:
    """The checkpoint's model, as if it had been calibrated: random weights have nothing to find."""
    model = load_model(str(checkpoint), device=device, dtype="float32")
    model.retrieval_heads, model.noise_floor = ((2, 1), (1, 3)), 0.01
    return model


def test_an_hour_of_stream_keeps_its_byte_budget(checkpoint: Path, device: str) -> None:
    budget_bytes = 1 << 19
    config = SessionConfig(host_budget_bytes=budget_bytes, window_blocks=4, max_answer_tokens=8)
    session = Session(calibrated(checkpoint, device), config)
    scenes = pictures(24)
    for second in range(0, 3600, 30):
        session.observe(Frame(second // 30, float(second), scenes[(second // 60) % 24]))
        assert session.memory.host_bytes <= budget_bytes
    assert session.memory.n_forgotten > 0
    answer = session.ask("what was there?").answer
    assert answer.asked_at_s == 3570
    assert answer.evidence


def test_what_is_evicted_to_disk_and_reopened_answers_as_if_it_had_stayed(
    checkpoint: Path, tmp_path: Path, device: str
) -> None:
    model = calibrated(checkpoint, device)
    frames = [Frame(i, float(i), picture) for i, picture in enumerate(pictures(24))]
    in_ram = Session(model, SessionConfig(window_blocks=4, top_k=4))
    in_ram.observe(frames)
    expected = told(in_ram)
    small = SessionConfig(host_budget_bytes=in_ram.memory.host_bytes * 3 // 4, window_blocks=4, top_k=4)
    with closing(Archive(tmp_path, model, on_event=print)) as archive:
        session = Session(model, small, archive=archive)
        session.observe(frames)
        session.flush()
        assert session.memory.host_bytes < in_ram.memory.host_bytes
        assert told(session) == expected
    with closing(Archive(tmp_path, model, on_event=print)) as archive:
        again = Session(model, small, archive=archive)
        again.watcher.newest = in_ram.watcher.newest  # never kept in full: a new process does not have it
        assert again.blocks() == in_ram.blocks()
        assert told(again) == expected


def told(session: Session) -> tuple[object, ...]:
    answer = session.ask("what was there?", out_of_band=True).answer
    assert answer.retrieved
    return answer.text, answer.evidence, answer.retrieved, answer.tokens
