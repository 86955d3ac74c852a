"""Real families from the command line and over an hour of stream, on tiny checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fabricate import FAMILIES, fabricate
from pairs import pictures

from streamvlm.cli import main
from streamvlm.engine import Session, SessionConfig, calibration
from streamvlm.engine.calibration import Calibration, save_calibration
from streamvlm.frame import Frame
from streamvlm.models.registry import load_model
from streamvlm.retrieval.heads import RetrievalHead
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


def test_an_hour_of_stream_keeps_its_byte_budget(checkpoint: Path) -> None:
    model = load_model(str(checkpoint), device="cpu")
    budget_bytes = 1 << 18
    save_calibration(model, Calibration((), (RetrievalHead(2, 1),), 0.01))
    session = Session(model, SessionConfig(host_budget_bytes=budget_bytes, window_blocks=4, max_answer_tokens=8))
    scenes = pictures(24)
    for second in range(0, 3600, 20):
        session.observe(Frame(second // 20, float(second), scenes[(second // 40) % 24]))
        assert session.memory.host_bytes <= budget_bytes
    assert session.memory.n_forgotten > 0
    answer = session.ask("what was there?").answer
    assert answer.asked_at_s == 3580
    assert answer.evidence
