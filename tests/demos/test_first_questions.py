"""The demo that ``make demo`` runs, on a shorter video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamvlm.errors import UsageError
from streamvlm.world.events import make_world
from streamvlm.world.video import draw_questions, write_questions, write_video
from streamvlm_demos.first_questions import main


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


def test_a_missing_question_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="streamvlm world"):
        main(tmp_path / "nothing.mp4")
