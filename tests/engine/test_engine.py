"""The engine with its worker: admission, ownership, cancelling, closing, failures, and sessions that outlive it."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_hand import Told, offer
from live_server import wait_until
from tiny_model import TinyModel, colour

from streamvlm.archive.archive import ArchiveConfig
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession, QuestionHandle
from streamvlm.engine.queued_question import Piece
from streamvlm.errors import (
    BusyError,
    EngineError,
    MemoryBudgetError,
    SessionNotFoundError,
    SessionRefusedError,
    StoreError,
    StreamVlmError,
    UsageError,
)
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session

TINY = SessionConfig(host_budget_bytes=1 << 20, max_answer_tokens=6)
WAIT_S = 60


@pytest.fixture
def engine(device: str) -> Iterator[Engine]:
    with Engine(TinyModel(device), EngineConfig(session=TINY)) as engine:
        yield engine


def durable(home: Path, device: str, **settings: Any) -> Engine:
    return Engine(TinyModel(device), EngineConfig(session=TINY, home=home, **settings))


class Ear:
    """A listener that can be waited for."""

    def __init__(self) -> None:
        self._told: queue.Queue[Told] = queue.Queue()
        self.hear = self._told.put

    def next(self) -> Told:
        return self._told.get(timeout=WAIT_S)

    def end(self) -> Answer | StreamVlmError:
        while isinstance(told := self.next(), Piece):
            pass
        assert self._told.empty(), "nothing comes after the end"
        return told

    def answer(self) -> Answer:
        end = self.end()
        assert isinstance(end, Answer), end
        return end


def ask(live: LiveSession, **settings: Any) -> tuple[QuestionHandle, Ear]:
    ear = Ear()
    return live.ask("abc?", ear.hear, **settings), ear


# --- admission and ownership ---


def test_the_ninth_session_of_eight_is_refused_until_one_is_closed(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(max_sessions=8, session=TINY)) as engine:
        lives = [engine.open() for _ in range(8)]
        assert len({live.id for live in lives}) == 8
        with pytest.raises(BusyError, match="All 8 sessions"):
            engine.open()
        lives[3].close()
        engine.open()
        assert engine.stats().n_sessions == 8


def test_of_many_that_open_at_once_no_more_get_in_than_there_are_places(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(max_sessions=3, session=TINY)) as engine:
        outcomes: list[object] = []

        def try_to_open() -> None:
            try:
                outcomes.append(engine.open())
            except BusyError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=try_to_open) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(outcome, LiveSession) for outcome in outcomes) == 3
        assert len(outcomes) == 8


def test_sessions_are_refused_when_their_memory_would_not_fit(device: str) -> None:
    config = EngineConfig(session=TINY, host_budget_bytes=2 << 20)
    with Engine(TinyModel(device), config) as engine:
        first, _ = engine.open(), engine.open()
        with pytest.raises(BusyError, match="no memory"):
            engine.open()
        first.close()
        engine.open()


def test_all_sessions_open_and_at_rest_share_one_budget_of_disk(tmp_path: Path, device: str) -> None:
    def on_disk(name: str) -> int:
        return sum(path.stat().st_size for path in tmp_path.glob(f"{name}/seg-*.kv"))

    archive = ArchiveConfig(budget_bytes=16 << 20)  # a segment is an eighth of it: there is room for one
    with durable(tmp_path, device, archive=archive, disk_budget_bytes=2 << 20) as engine:
        first = engine.open("first")
        offer(first, 8)
        first.close()
    with durable(tmp_path, device, archive=archive, disk_budget_bytes=2 << 20) as engine:
        assert 0 < on_disk("first") == engine.stats().disk_bytes <= 2 << 20
        second = engine.open("second")
        offer(second, 8)
        ask(second)[1].answer()
        assert second.timeline().blocks, "it goes on in RAM"
        second.close()
        assert on_disk("second") == 0
        engine.delete("first")
        assert engine.stats().disk_bytes == 0
        offer(engine.find("second"), 8)
    assert 0 < on_disk("second") <= 2 << 20, "what was deleted leaves room"


def test_a_home_that_cannot_hold_sessions_is_found_out_at_once(tmp_path: Path, device: str) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/sessions")):
        with pytest.raises(StoreError, match="choose another --home"):
            durable(home, device)


def test_each_session_gets_the_same_share_of_the_device() -> None:
    config = EngineConfig(max_sessions=4, device_budget_bytes=1 << 30)
    assert config.share.device_budget_bytes == 1 << 28
    assert replace(config, device_budget_bytes=1 << 40).share == config.session


def test_a_session_opened_twice_is_one_session(engine: Engine) -> None:
    live = engine.open("one")
    assert engine.open("one") is live
    assert engine.find("one") is live
    assert [info.id for info in engine.sessions()] == ["one"]


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "a" * 65, ".", "ä", "a b", "a\n"])
def test_ids_that_could_lead_out_of_the_house_are_refused(tmp_path: Path, bad: str, device: str) -> None:
    with durable(tmp_path / "home", device) as engine:
        with pytest.raises(UsageError, match="1 to 64 letters"):
            engine.open(bad)
        for refused in (engine.find, engine.delete):
            with pytest.raises(SessionNotFoundError):
                refused(bad)
        assert not engine.sessions()


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_session_is_its_owners_and_its_secrets(tmp_path: Path, is_durable: bool, device: str) -> None:
    config = EngineConfig(session=TINY, home=tmp_path if is_durable else None)
    with Engine(TinyModel(device), config) as engine:
        engine.open("hers", owner="ann", secret="s")
        engine.open("anybodys", secret="word")
        attempts: list[dict[str, Any]] = [{}, {"owner": "bob"}, {"owner": "bob", "secret": "s"}, {"secret": "s"}]
        for attempt in attempts:
            with pytest.raises(SessionRefusedError, match="not yours"):
                engine.open("hers", **attempt)
        assert engine.open("hers", owner="ann").owner == "ann"
        with pytest.raises(SessionRefusedError):
            engine.open("anybodys", secret="guess")
        engine.open("anybodys", secret="word")
        for refused in (engine.find, engine.delete):
            with pytest.raises(SessionNotFoundError, match="'hers'"):
                refused("hers", owner="bob")
        assert [info.id for info in engine.sessions(owner="ann")] == ["hers"]
        assert {info.id for info in engine.sessions()} == {"hers", "anybodys"}
    if is_durable:
        assert "word" not in (tmp_path / "anybodys" / "owner.json").read_text()
        with Engine(TinyModel(device), config) as engine:
            with pytest.raises(SessionRefusedError):
                engine.open("hers", owner="bob")
            engine.find("hers", owner="ann")


# --- frames and questions ---


def test_an_answer_comes_in_pieces_and_then_whole(engine: Engine) -> None:
    live = engine.open()
    offer(live, 5)
    asked, ear = ask(live)
    told = [ear.next()]
    while not isinstance(told[-1], Answer):
        told.append(ear.next())
    answer = told[-1]
    assert answer.text == "".join(piece.text for piece in told[:-1] if isinstance(piece, Piece))
    assert answer.asked_at_s == asked.asked_at_s == 4
    assert not answer.cancelled
    assert 0 < answer.timings.ttft_s <= answer.timings.total_s
    assert answer.tokens.answer == 6
    session = Session(engine.model, TINY)
    session.observe([Frame(i, float(i), colour(i)) for i in range(5)])
    assert session.ask("abc?").answer.text == answer.text


def test_settings_of_a_question_are_its_own(engine: Engine) -> None:
    live = engine.open()
    offer(live, 2)
    ears = [ask(live, max_tokens=n, out_of_band=True)[1] for n in (1, 3, None, 900)]
    assert [ear.answer().tokens.answer for ear in ears] == [1, 3, 6, 6]
    told = {ask(live, temperature=100.0, out_of_band=True)[1].answer().text for _ in range(4)}
    assert len(told) > 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"at_s": -1.0}, "before it"), ({"max_tokens": 0}, "at least 1"), ({"temperature": -0.5}, "at least 0")],
)
def test_questions_that_cannot_be_answered_are_refused_at_once(
    engine: Engine, settings: dict[str, float], complaint: str
) -> None:
    live = engine.open()
    with pytest.raises(UsageError, match="Nothing has been seen"):
        ask(live)
    offer(live)
    with pytest.raises(UsageError, match=complaint):
        ask(live, **settings)
    with pytest.raises(UsageError, match="empty"):
        live.ask("  ", print)


def test_a_question_that_proves_too_long_is_refused_to_its_listener(engine: Engine) -> None:
    live, ear = engine.open(), Ear()
    offer(live)
    live.ask("x" * 600, ear.hear)
    error = ear.end()
    assert isinstance(error, UsageError)
    assert "512 are allowed" in str(error)
    assert ask(live)[1].answer().text
    assert engine.stats().n_refused == 1


BAD = [
    np.zeros((4, 4), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float32),
    "picture",
]


@pytest.mark.parametrize("picture", BAD, ids=["grey", "alpha", "empty", "float", "text"])
def test_what_is_no_picture_is_refused_at_the_door(engine: Engine, picture: Any) -> None:
    with pytest.raises(UsageError, match=r"\(height, width, 3\)"):
        engine.open().offer(picture)


@pytest.mark.parametrize("time_s", [-1.0, 3.0, 2.9, float("nan"), float("inf")])
def test_frames_out_of_order_are_refused(engine: Engine, time_s: float) -> None:
    live = engine.open()
    live.offer(colour(0), time_s=3.0)
    with pytest.raises(UsageError, match="in the order of their times"):
        live.offer(colour(1), time_s=time_s)


def test_without_a_time_frames_go_by_the_clock_and_always_on(engine: Engine) -> None:
    live = engine.open()
    times = [live.offer(colour(i)) for i in range(4)]
    assert times[0] == 0
    assert times == sorted(set(times))
    live.offer(colour(5), time_s=1000.0)
    assert live.offer(colour(6)) > 1000


def test_decisions_are_told_and_the_timeline_shows_them(engine: Engine) -> None:
    live = engine.open()
    heard: list[float] = []
    live.on_decision(lambda decision: heard.append(decision.time_s))
    offer(live, 12)
    ask(live)[1].answer()
    assert heard == list(range(12))
    timeline = live.timeline(3.0, 7.0)
    assert [d.time_s for d in timeline.decisions] == [3, 4, 5, 6, 7]
    assert timeline.blocks
    assert all(block.start_s <= 7 and block.end_s >= 3 for block in timeline.blocks)
    assert live.thumbnail(0) is None


def test_a_listener_that_fails_harms_nobody(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    live = engine.open()
    offer(live)

    def fail(told: object) -> None:
        raise RuntimeError("listener")

    live.on_decision(fail)
    live.ask("abc?", fail)
    offer(live)
    assert ask(live)[1].answer().text
    assert "a listener failed" in caplog.text


# --- the end ---


def test_closing_lets_answers_end(engine: Engine) -> None:
    live = engine.open()
    offer(live, 3)
    ears = [ask(live)[1] for _ in range(4)]
    engine.close(drain_s=WAIT_S)
    assert all(not ear.answer().cancelled for ear in ears)
    assert live.stats().time_s == 2
    for refused in (lambda: offer(live), lambda: ask(live), engine.open):
        with pytest.raises(EngineError, match="closed"):
            refused()
    engine.close()  # twice is once


def test_closing_without_patience_cancels(device: str) -> None:
    engine = Engine(TinyModel(device), EngineConfig(session=SessionConfig(max_answer_tokens=100_000)))
    live = engine.open()
    offer(live, 3)
    asked = [ask(live), ask(live)]
    asked[0][1].next()
    engine.close(drain_s=0.0)
    assert all(ear.answer().cancelled for _, ear in asked)


def test_frames_that_closing_leaves_no_time_for_are_told(caplog: pytest.LogCaptureFixture, device: str) -> None:
    engine = Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=1000, step_frames=1))
    live = engine.open()
    offer(live, 1000)
    engine.close(drain_s=0.0)
    n_dropped = live.stats().n_dropped
    assert n_dropped > 0
    assert f"{n_dropped} frames still waited" in caplog.text


def test_a_closed_session_has_cancelled_its_questions_and_watched_its_frames(engine: Engine) -> None:
    live = engine.open("a")
    offer(live, 8)
    ears = [ask(live)[1] for _ in range(3)]
    live.close()
    assert all(ear.answer() for ear in ears)
    assert live.stats().time_s == 7
    assert not engine.sessions()
    with pytest.raises(EngineError, match="closed"):
        offer(live)
    live.close()  # twice is once
    assert engine.open("a") is not live


# --- failures ---


class Breakable(TinyModel):
    """A model that breaks when it is shown a black picture, and dies of a white one."""

    def see(self, pictures: Any) -> Any:
        if any(not picture.any() for picture in pictures):
            raise RuntimeError("black")
        if any((picture == 255).all() for picture in pictures):
            raise SystemExit("white")
        return super().see(pictures)


BLACK: Picture = np.zeros((2, 2, 3), np.uint8)
WHITE: Picture = np.full((2, 2, 3), 255, np.uint8)


def test_a_step_that_does_not_end_shows_as_long_as_it_lasts(device: str) -> None:
    go_on = threading.Event()

    class Held(TinyModel):
        def see(self, pictures: Sequence[Picture]) -> list[Sight]:
            assert go_on.wait(60)
            return super().see(pictures)

    with Engine(Held(device), EngineConfig(session=TINY)) as engine:
        live = engine.open()
        assert engine.stats().step_s == 0
        live.offer(colour(1), time_s=0.0)
        wait_until(lambda: engine.stats().step_s > 0.01)
        go_on.set()
        assert ask(live)[1].answer().text
        wait_until(lambda: engine.stats().step_s == 0)


def test_a_stream_that_fails_is_told_so_and_the_others_go_on(caplog: pytest.LogCaptureFixture, device: str) -> None:
    with Engine(Breakable(device), EngineConfig(session=TINY)) as engine:
        bad, good = engine.open(), engine.open()
        notices: list[str] = []
        bad.on_notice(notices.append)
        live_ears = []
        for live in (bad, good):
            live.offer(colour(1), time_s=0.0)
        bad.offer(BLACK, time_s=1.0)
        good.offer(colour(2), time_s=1.0)
        live_ears = [ask(bad)[1], ask(good)[1]]
        error = live_ears[0].end()
        assert isinstance(error, EngineError)
        assert "black" in str(error)
        assert live_ears[1].answer().text
        assert notices == [str(error)]
        assert bad.stats().failure == str(error)
        with pytest.raises(EngineError, match="black"):
            ask(bad)
        bad.close()
        assert good.stats().failure is None
        assert ask(good)[1].answer().text
    (told,) = [record for record in caplog.records if "an internal failure" in record.getMessage()]
    assert vars(told)["session_id"] == bad.id


def test_a_budget_below_the_window_fails_that_stream_in_one_sentence(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=SessionConfig(host_budget_bytes=8192))) as engine:
        live = engine.open()
        offer(live, 16)
        assert isinstance(ask(live)[1].end(), MemoryBudgetError)


def test_a_worker_that_dies_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture, device: str) -> None:
    engine = Engine(Breakable(device), EngineConfig(session=TINY))
    dying, other = engine.open(), engine.open()
    offer(other)
    dying.offer(WHITE, time_s=0.0)
    ears = [ask(dying)[1], ask(other)[1]]
    outcomes = [ear.end() for ear in ears]
    assert isinstance(outcomes[0], EngineError)
    assert "worker died" in str(outcomes[0])
    for refused in (lambda: offer(dying), lambda: ask(dying), dying.timeline, engine.open):
        with pytest.raises(EngineError, match="worker died"):
            refused()
    assert engine.stats().n_sessions == 2
    dying.close()
    engine.close()
    assert "the engine's worker died" in caplog.text


# --- sessions that outlive the engine ---


def test_a_session_is_taken_up_where_it_was_left(tmp_path: Path, device: str) -> None:
    with durable(tmp_path, device) as engine:
        live = engine.open("a", secret="s")
        offer(live, 10)
        first = ask(live, out_of_band=True)[1].answer()
        timeline = live.timeline()
    with durable(tmp_path, device) as engine:
        assert [(info.id, info.is_open) for info in engine.sessions()] == [("a", False)]
        live = engine.open("a", secret="s")
        assert live.stats().time_s == 9
        assert live.timeline() == timeline
        picture = live.thumbnail(timeline.blocks[0].id)
        assert picture is not None
        assert picture.startswith(b"\xff\xd8")
        assert live.thumbnail(999) is None
        with pytest.raises(UsageError):
            live.offer(colour(9), time_s=9.0)
        again = ask(live, out_of_band=True)[1].answer()
        assert again.memory.n_blocks == first.memory.n_blocks
        assert live.offer(colour(10)) == 10, "a second later, by the clock"
        offer(live, 5)
        ask(live)[1].answer()
        assert live.stats().time_s == 15


def test_a_deleted_session_is_gone_for_good(tmp_path: Path, device: str) -> None:
    with durable(tmp_path, device) as engine:
        offer(engine.open("open"))
        engine.open("shut").close()
        assert {info.id for info in engine.sessions()} == {"open", "shut"}
        for session_id in ("open", "shut"):
            engine.delete(session_id)
            with pytest.raises(SessionNotFoundError):
                engine.find(session_id)
        assert not engine.sessions()
        assert not list(tmp_path.iterdir())


def test_a_temporary_session_is_deleted_without_a_folder(tmp_path: Path, device: str) -> None:
    with durable(tmp_path, device) as engine:
        live = engine.open(is_temporary=True)
        offer(live, 2)
        assert not engine.sessions()
        engine.delete(live.id)
        assert not list(tmp_path.iterdir())
        assert engine.stats().n_sessions == 0


def test_a_folder_that_cannot_be_used_takes_no_place(tmp_path: Path, device: str) -> None:
    (tmp_path / "file").write_text("")
    with durable(tmp_path, device, max_sessions=1) as engine:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "session.json").write_text("{")
        with pytest.raises(StreamVlmError, match="holds no memory"):
            engine.open("a")
        assert engine.stats().n_sessions == 0
        engine.open("b")


def test_a_home_that_vanishes_is_one_sentence_and_a_damaged_session_is_not_listed(tmp_path: Path, device: str) -> None:
    with durable(tmp_path / "home", device) as engine:
        (tmp_path / "home").rmdir()
        (tmp_path / "home").touch()
        with pytest.raises(StoreError, match="choose another home"):
            engine.open()
    with durable(tmp_path, device) as engine:
        engine.open("a").close()
        engine.open("b").close()
        (tmp_path / "a" / "owner.json").write_text("{")
        assert [info.id for info in engine.sessions()] == ["b"]
        with pytest.raises(StoreError, match="damaged"):
            engine.open("a")


CHILD = """
import sys
import time
from pathlib import Path
from by_hand import offer
from tiny_model import TinyModel
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig
session = SessionConfig(host_budget_bytes=1 << 20)
engine = Engine(TinyModel(sys.argv[2]), EngineConfig(home=Path(sys.argv[1]), session=session))
live = engine.open("a", owner="ann")
while True:
    offer(live, 8)
    live.ask("abc?", lambda told: print(told.asked_at_s, flush=True) if isinstance(told, Answer) else None)
    while live.stats().n_questions:
        time.sleep(0.001)
"""


def test_pictures_far_apart_do_not_wait_for_the_disk_to_be_due(tmp_path: Path, device: str) -> None:
    with durable(tmp_path, device, archive=ArchiveConfig(flush_every_s=1000.0)) as engine:
        live = engine.open("lapse")
        for n in range(4):
            live.offer(colour(n), time_s=2000.0 * n, keep=True)
        wait_until(lambda: live.stats().time_s == 6000.0)


def test_a_killed_engine_loses_no_more_than_promised(tmp_path: Path, device: str) -> None:
    path = os.pathsep.join([*sys.path, str(Path(__file__).parents[1] / "support")])
    command = [sys.executable, "-c", CHILD, str(tmp_path), device]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        answered_s = [float(child.stdout.readline()) for _ in range(4)]
        child.send_signal(signal.SIGKILL)
        answered_s += [float(line) for line in child.stdout]
    with durable(tmp_path, device) as engine:
        with pytest.raises(SessionRefusedError):
            engine.open("a", owner="bob")
        live = engine.open("a", owner="ann")
        time_s = live.stats().time_s
        assert time_s is not None
        assert time_s >= answered_s[-1] - engine.config.archive.flush_every_s
        offer(live, 2)
        assert ask(live)[1].answer().asked_at_s == time_s + 2
