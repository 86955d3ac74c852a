"""Standing questions: the state machine, the probe on pocket, and armed_questions in a live stream."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from by_hand import ByHand, offer
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TinyModel

from streamvlm.engine.config import EngineConfig
from streamvlm.errors import BusyError, UsageError
from streamvlm.frame import Fidelity, Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.session.standing_question import ArmedQuestion, Fired, StandingQuestion, check, probability_of_yes
from streamvlm.world.events import World

probabilities = st.floats(0, 1)


@st.composite
def sure_questions(draw: st.DrawFn) -> StandingQuestion:
    low = draw(st.floats(0, 0.99))
    high = draw(st.floats(low, 1, exclude_min=True))
    return StandingQuestion("is it?", high, low, draw(st.floats(0.1, 9)), draw(st.floats(0, 30)))


frames_seen = st.lists(st.tuples(st.floats(0.01, 10), st.sampled_from(Fidelity), probabilities), max_size=60)


def armed(standing: StandingQuestion) -> ArmedQuestion:
    return ArmedQuestion("id", standing)


@given(sure_questions(), frames_seen)
def test_it_fires_once_per_occurrence_and_misses_none_that_it_may_tell(
    standing: StandingQuestion, seen: list[tuple[float, Fidelity, float]]
) -> None:
    watch, time_s = armed(standing), 0.0
    checks: list[tuple[float, float, bool]] = []
    for elapsed_s, fidelity, probability in seen:
        time_s += elapsed_s
        is_due = watch.is_due(time_s, fidelity)
        since_s = time_s - checks[-1][0] if checks else math.inf
        assert is_due == (fidelity is Fidelity.CLEAR or since_s >= standing.every_s)
        if is_due:
            checks.append((time_s, probability, watch.judge(time_s, probability)))
    fired = [i for i, check in enumerate(checks) if check[2]]
    for i, (time_s, probability, has_fired) in enumerate(checks):
        last = max((j for j in fired if j < i), default=None)
        is_released = last is None or any(p <= standing.release for _, p, _ in checks[last + 1 : i + 1])
        is_cool = last is None or time_s - checks[last][0] >= standing.cool_down_s
        assert has_fired == (probability >= standing.threshold and is_released and is_cool)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"question": " "}, "empty"),
        ({"threshold": 0.3, "release": 0.3}, "below the first"),
        ({"threshold": 1.1}, "below the first"),
        ({"release": -0.1}, "below the first"),
        ({"threshold": math.nan}, "below the first"),
        ({"every_s": 0.0}, "above 0"),
        ({"cool_down_s": -1.0}, "above 0"),
        ({"cool_down_s": math.inf}, "above 0"),
    ],
)
def test_what_could_never_fire_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        StandingQuestion(**{"question": "is it?", **settings})


@given(st.lists(st.floats(-200, 200), min_size=16, max_size=16))
def test_the_probability_is_the_share_of_yes_and_never_undefined(device: str, logits: list[float]) -> None:
    model: Any = TinyModel(device)
    got = probability_of_yes(torch.tensor(logits, device=device), model)
    yes, no = math.log(math.exp(logits[3]) + math.exp(logits[5])), logits[4]
    assert got == pytest.approx(1 / (1 + math.exp(min(no - yes, 700))), abs=1e-6)


def test_pocket_says_of_the_frame_of_now_whether_a_thing_is_there(
    pocket: VideoLanguageModel, world: World, frames: list[Frame]
) -> None:
    session = Session(pocket, SessionConfig())
    shown = [a for a in world.appearances if a.start_s < 38]
    watch = [armed(StandingQuestion(f"did you see a {a.thing.name}?", cool_down_s=0.0)) for a in shown]
    fired_s: dict[ArmedQuestion, list[float]] = {one: [] for one in watch}
    for start in range(0, 40, 8):
        for seen in session.runner.run(session.watcher.watch(frames[start : start + 8])):
            for one, told in session.runner.run(check(session.runner, watch, seen)):
                assert told.time_s == seen.decision.time_s
                fired_s[one].append(told.time_s)
    assert len(shown) >= 3
    for appearance, told_s in zip(shown, fired_s.values(), strict=True):
        assert len(told_s) == 1
        assert appearance.start_s <= told_s[0] <= appearance.start_s + 2


# --- in a live stream ---

ALWAYS = StandingQuestion("abc?", threshold=1e-9, release=0.0, every_s=3.0, cool_down_s=0.0)


def test_a_live_stream_is_checked_at_turning_points_and_on_a_timer(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=SessionConfig(host_budget_bytes=1 << 20)))
    live = engine.open()
    checked: list[float] = []
    fired: list[Fired] = []
    standing_id = armed_by_hand(engine, live, ALWAYS, fired.append)
    (watch,) = live.scheduled.armed_questions.armed
    assert watch.standing_id == standing_id
    judge = watch.judge

    def noted(time_s: float, probability: float) -> bool:
        checked.append(time_s)
        return judge(time_s, probability)

    watch.judge = noted  # type: ignore[method-assign]
    for _ in range(3):
        offer(live, 10)
        engine.finish()
    log = list(live.scheduled.session.log)
    assert {d.time_s for d in log if d.fidelity is Fidelity.CLEAR} <= set(checked)
    assert all(later - earlier <= 3 for earlier, later in pairwise(checked))
    assert len(checked) < 30
    assert [told.time_s for told in fired] == [0], "once, as it is never released"
    assert fired[0].question == "abc?"
    assert [(seen.start_s, seen.end_s) for seen in fired[0].evidence] == [(0, 0)]
    assert engine.counters.n_fired == 1


def armed_by_hand(engine: ByHand, live: Any, standing: StandingQuestion, listener: Any) -> str:
    """Arms without a worker to ask: that the question is short enough is not looked into."""
    live._worker.call = lambda function: function()
    live.on_fired(listener)
    armed: str = live.arm(standing)
    return armed


def test_what_is_disarmed_fires_no_more_and_one_too_many_is_refused(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(max_standing=2, session=SessionConfig(host_budget_bytes=1 << 20)))
    live = engine.open()
    fired: list[Fired] = []
    first, second = (armed_by_hand(engine, live, replace(ALWAYS, question=f"{word}?"), fired.append) for word in "ab")
    assert live.arm(replace(ALWAYS, question="a?")) == first, "it is armed already"
    with pytest.raises(BusyError, match="2 standing questions"):
        live.arm(ALWAYS)
    live.disarm(first)
    live.disarm("nothing")
    offer(live, 4)
    engine.finish()
    assert [told.standing_id for told in fired] == [second]


def test_a_standing_question_too_long_is_refused_when_it_is_armed(device: str) -> None:
    engine = ByHand(TinyModel(device))
    live = engine.open()
    with pytest.raises(UsageError, match="512 are allowed"):
        armed_by_hand(engine, live, StandingQuestion("x" * 600), print)


def test_checking_changes_nothing_in_what_is_remembered(device: str) -> None:
    engines = [ByHand(TinyModel(device)), ByHand(TinyModel(device))]
    lives = [engine.open() for engine in engines]
    armed_by_hand(engines[0], lives[0], ALWAYS, lambda fired: None)
    for engine, live in zip(engines, lives, strict=True):
        offer(live, 12)
        engine.finish()
    one, other = (live.scheduled.session for live in lives)
    assert one.blocks() == other.blocks()
    assert [d.score for d in one.log] == [d.score for d in other.log]
