"""The standing questions of a session: whoever listens is told each firing, once, and what was too much is counted."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TinyModel, colour

from streamvlm.archive.diary import MOST_FIRED
from streamvlm.engine.armed_questions import ArmedQuestions
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession
from streamvlm.session.config import SessionConfig
from streamvlm.session.standing_question import Fired, StandingQuestion, evidence_at

ALWAYS = StandingQuestion("abc?", threshold=1e-9, release=0.0, every_s=1e-3, cool_down_s=0.0)
ONCE_MORE = StandingQuestion("and abc?", threshold=1e-9, release=0.0, every_s=1e-3, cool_down_s=2.0)


def firing(standing_id: str = "id", time_s: float = 1.0) -> Fired:
    return Fired(standing_id, "is it?", time_s, 0.9, evidence_at(time_s))


ACTIONS = st.lists(st.sampled_from(["fire", "listen", "leave"]) | st.integers(0, 150), max_size=40)


@given(ACTIONS, st.integers(1, 70))
def test_whoever_listens_is_told_in_order_what_it_does_not_know_and_how_much_was_too_much(
    actions: list[str | int], at_once: int
) -> None:
    armed_questions = ArmedQuestions(threading.Condition(), None)
    armed_questions.arm("id", ALWAYS)
    told: list[Fired] = []
    is_listening, known, n_fired = False, 0, 0
    for action in actions:
        told.clear()
        match action:
            case "fire":
                for _ in range(at_once):
                    assert armed_questions.fire(firing())
                    n_fired += 1
            case "leave":
                armed_questions.listen(None)
                is_listening = False
            case _:
                after = None if action == "listen" else int(action)
                if after is not None and after <= n_fired:
                    known = after
                assert armed_questions.listen(told.append, after=after) == known
                is_listening = True
        if not is_listening:
            assert not told
            continue
        n_kept = 1 if action == "fire" else MOST_FIRED  # one after another, they never come to be too many
        first = known + 1 if action == "fire" else max(known + 1, n_fired - n_kept + 1)
        assert [fired.number for fired in told] == list(range(first, n_fired + 1))
        assert sum(fired.n_missed for fired in told) == (first - known - 1 if told else 0)
        assert all(fired.n_missed == 0 for fired in told[1:])
        known = n_fired


def test_what_is_disarmed_meanwhile_does_not_fire() -> None:
    armed_questions = ArmedQuestions(threading.Condition(), None)
    armed_questions.arm("id", ALWAYS)
    armed_questions.disarm("id")
    armed_questions.disarm("never")
    assert not armed_questions.fire(firing())
    assert armed_questions.armed == ()


def test_a_listener_that_fails_is_no_harm_to_the_stream() -> None:
    armed_questions = ArmedQuestions(threading.Condition(), None)
    armed_questions.arm("id", ALWAYS)

    def fails(fired: Fired) -> None:
        raise RuntimeError("against the rules")

    armed_questions.listen(fails)
    assert armed_questions.fire(firing())


# --- on disk ---


def opened(home: Path, device: str) -> Engine:
    return Engine(TinyModel(device), EngineConfig(home=home, session=SessionConfig(host_budget_bytes=1 << 20)))


def show(live: LiveSession, *times_s: float) -> None:
    """Shows frames, and returns when they were watched."""
    for time_s in times_s:
        live.offer(colour(int(time_s)), time_s=time_s)
    answered = threading.Event()
    live.ask("abc?", lambda told: answered.set(), out_of_band=True, max_tokens=1)
    assert answered.wait(60)


def test_standing_questions_and_what_nobody_was_told_of_outlive_the_process(tmp_path: Path, device: str) -> None:
    with opened(tmp_path, device) as engine:
        live = engine.open("camera")
        kept, cooling, gone = live.arm(ALWAYS), live.arm(ONCE_MORE), live.arm(StandingQuestion("or abc?"))
        live.disarm(gone)
        show(live, 0.0, 1.0)
    with opened(tmp_path, device) as engine:
        live = engine.open("camera")
        assert live.standing() == {kept: ALWAYS, cooling: ONCE_MORE}
        told: list[Fired] = []
        live.on_fired(told.append)
        assert [(fired.number, fired.standing_id, fired.time_s) for fired in told] == [
            (1, kept, 0.0),
            (2, cooling, 0.0),
        ]
        assert told[0].evidence == evidence_at(0.0)
        assert (told[0].question, told[0].n_missed) == ("abc?", 0)
        told.clear()
        show(live, 1.5, 2.0)  # what is still true is told again, once it has cooled down
        assert [(fired.number, fired.standing_id, fired.time_s) for fired in told] == [
            (3, kept, 1.5),
            (4, cooling, 2.0),
        ]
        told.clear()
        live.on_fired(told.append)
        assert told == []
    with opened(tmp_path, device) as engine:
        live = engine.open("camera")
        live.on_fired(told.append)
        assert told == [], "somebody has been told of all of it"
        live.on_fired(told.append, after=2)
        assert [fired.number for fired in told] == [3, 4]


def test_of_firings_too_many_to_keep_the_last_are_kept_on_disk_and_the_others_counted(
    tmp_path: Path, device: str
) -> None:
    with opened(tmp_path, device) as engine:
        live = engine.open("camera")
        standing_id = live.arm(ALWAYS)
        for number in range(MOST_FIRED + 6):
            live.scheduled.armed_questions.fire(firing(standing_id, float(number)))
        show(live, 100.0)
    with opened(tmp_path, device) as engine:
        live = engine.open("camera")
        told: list[Fired] = []
        live.on_fired(told.append)
        assert [fired.number for fired in told] == list(range(8, MOST_FIRED + 8))
        assert [fired.n_missed for fired in told] == [7] + [0] * (MOST_FIRED - 1)
