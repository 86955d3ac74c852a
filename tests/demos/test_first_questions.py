"""The demo that ``make demo`` runs, on a shorter video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricate import fabricate

from streamvlm.calibration import calibrate as calibration
from streamvlm.errors import UsageError
from streamvlm.world.events import make_world
from streamvlm.world.questions import Group, WorldQuestion
from streamvlm.world.video import draw_questions, write_questions, write_video
from streamvlm_demos.first_questions import main, says


def test_the_demo_asks_five_kinds_of_question_and_the_answers_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    world = make_world(8, 80)
    write_video(world, tmp_path / "demo.mp4")
    write_questions(draw_questions(world, 60, np.random.default_rng([8, 1])), tmp_path / "demo.jsonl")
    wrong = main(tmp_path / "demo.mp4", device=device)
    told = capsys.readouterr().out
    assert told.count("first token") >= 8
    assert wrong <= 1  # dialogue makes one of ten uncertain: pocket was trained with one earlier answer in view
    assert "watched once" in told


def test_another_model_is_asked_the_same_and_its_right_answers_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_N_WORLDS", 1)
    monkeypatch.setattr(calibration, "_WORLD_S", 120.0)
    write_video(make_world(8, 40), tmp_path / "demo.mp4")
    asked = [
        WorldQuestion("now_what", Group.NOW, "what do you see now?", 20.0, "a red circle", 20.0, 20.0),
        WorldQuestion("never", Group.NEVER, "did you see an orange heart?", 30.0, "no"),
    ]
    write_questions(asked, tmp_path / "demo.jsonl")
    wrong = main(tmp_path / "demo.mp4", model=str(fabricate("smolvlm", tmp_path / "checkpoint")), device=device)
    told = capsys.readouterr().out
    assert "loading" in told
    assert told.count("first token") == 2
    assert f"{2 - wrong} of 2 answers right" in told


@pytest.mark.parametrize(
    ("answer", "truth", "is_said"),
    [
        ("There is an orange heart in the top left.", "an orange heart", True),
        ("There is a heart.", "an orange heart", False),
        ("It was at the top left of the sea", "in the top left", True),
        ("A red circle with badge 17", "badge 7", False),
    ],
)
def test_an_answer_that_has_the_truths_words_among_its_own_says_it(answer: str, truth: str, is_said: bool) -> None:
    assert says(answer, truth) == is_said


def test_a_missing_question_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="streamvlm world"):
        main(tmp_path / "nothing.mp4")
