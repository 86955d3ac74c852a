"""The suite of standing questions: what counts as told and as false, and a run on pocket."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from streamvlm.cli import main
from streamvlm.errors import UsageError
from streamvlm.evaluation.suites.standing import N_NEVER, Watch, run_standing_suite, summarise
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.standing_question import StandingQuestion


def test_an_event_is_told_once_and_all_else_is_false() -> None:
    watch = Watch(
        "red circle", [(10.2, 15.0), (20.0, 24.0), (30.5, 38.0), (50.0, 60.0)], [11.0, 13.0, 17.0, 22.5, 33.5]
    )
    assert watch.latencies_s == [pytest.approx(0.8), 2.5, 3.0, None]
    assert watch.n_false == 2, "13 s tells of what was told already, and at 17 s there is nothing"
    never = Watch("blue star", [], [40.0])
    assert (never.latencies_s, never.n_false) == ([], 1)
    report = summarise([watch, never], hours=0.5)
    assert report["events"] == 4
    assert report["told within 2 s"] == 0.25
    assert (report["told late"], report["missed"]) == (2, 1)
    assert report["latency_s, median"] == 2.5
    assert (report["false alarms"], report["false alarms an hour of stream"]) == (3, 6.0)


def test_pocket_tells_of_most_appearances_in_time(pocket: VideoLanguageModel) -> None:
    lines: list[str] = []
    watches = run_standing_suite(
        pocket, StandingQuestion("did you see a {name}?"), seeds=[3], duration_s=60,
        n_questions=7, progress=lines.append,
    )  # fmt: skip
    assert len(watches) == 7
    assert sum(not watch.events for watch in watches) >= N_NEVER
    report = summarise(watches, 60 / 3600)
    assert report["events"] >= 3
    assert report["told within 2 s"] >= 0.75
    assert "events told" in lines[0]


def test_the_command_prints_the_report_and_refuses_bounds_out_of_order() -> None:
    done = CliRunner().invoke(main, ["eval", "standing", "--streams", "1", "--duration", "20s", "--questions", "3"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["questions armed"] == 3
    refused = CliRunner().invoke(main, ["eval", "standing", "--threshold", "0.2"])
    assert refused.exit_code == UsageError.exit_code
    assert "the second below the first" in refused.output
