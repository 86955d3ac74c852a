"""What a request that brings its own video needs of the engine: room for every frame, and nothing left behind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from standing_still import standing_still
from tiny_model import TinyModel, colour

from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.errors import EngineError
from streamvlm.session.config import SessionConfig

TINY = SessionConfig(host_budget_bytes=1 << 20, max_answer_tokens=6)


def test_whoever_waits_loses_no_frame_however_short_the_queue(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=2)) as engine:
        live = engine.open()
        for second in range(60):
            live.offer(colour(second), time_s=float(second), wait=True)
        live.close()
        stats = engine.stats()
        assert (stats.n_frames, stats.n_dropped) == (60, 0)
        assert stats.n_clear + stats.n_fuzzy + stats.n_discarded == 60


def test_whoever_waits_for_a_session_that_ends_is_told_so(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=1)) as engine:
        live = engine.open()
        told: list[EngineError] = []

        def fill() -> None:
            for second in range(1_000_000):
                try:
                    live.offer(colour(second), time_s=float(second), wait=True)
                except EngineError as error:
                    told.append(error)
                    return

        filling = threading.Thread(target=fill)
        filling.start()
        while not engine.stats().n_frames:
            time.sleep(0.001)
        live.close()
        filling.join()
        assert "closed" in str(told)


def test_what_is_to_be_kept_is_watched_whatever_comes_as_fast_as_it_will(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=2)) as engine:
        live = engine.open()
        watched: list[float] = []
        live.on_decision(lambda decision: watched.append(decision.time_s))
        for second in range(200):
            if second % 20 == 0:
                room = threading.Event()
                live.when_room(room.set)
                assert room.wait(10)
            live.offer(colour(second), time_s=float(second), keep=second % 20 == 0)
        live.close()
        assert len(watched) + engine.stats().n_dropped == 200
        assert {float(second) for second in range(0, 200, 20)} <= set(watched)


def test_whoever_waits_for_room_in_a_session_that_ends_is_told_and_the_offer_says_why(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=1)) as engine:
        live, room = engine.open(), threading.Event()
        with ThreadPoolExecutor(1) as others:
            with standing_still(engine):
                live.offer(colour(0), time_s=0.0, keep=True)
                live.when_room(room.set)
                closing = others.submit(live.close)
                assert not room.is_set()
            assert room.wait(10)
            closing.result()
        with pytest.raises(EngineError, match="closed"):
            live.offer(colour(1), time_s=1.0, keep=True)


def test_nothing_more_is_watched_for_a_temporary_session_that_is_closed(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=100)) as engine:
        live = engine.open(is_temporary=True)
        with ThreadPoolExecutor(1) as others:
            with standing_still(engine):
                for second in range(100):
                    live.offer(colour(second), time_s=float(second), keep=True)
                closing = others.submit(live.close)
                while live.stats().n_waiting:
                    time.sleep(0.001)
            closing.result()
        assert engine.stats().n_frames == 0


def test_a_temporary_session_takes_a_place_and_leaves_nothing(tmp_path: Path, device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, home=tmp_path)) as engine:
        live = engine.open(owner="ann", is_temporary=True)
        live.offer(colour(1), time_s=0.0)
        assert engine.stats().n_sessions == 1
        assert engine.sessions() == []
        live.close()
        assert engine.stats().n_sessions == 0
    assert list(tmp_path.iterdir()) == []


def test_counts_of_closed_sessions_stay_and_what_they_held_goes(device: str) -> None:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=1)) as engine:
        live = engine.open()
        for second in range(50):
            live.offer(colour(second), time_s=float(second))
        live.close()
        stats = engine.stats()
        assert stats.n_frames + stats.n_dropped == 50
        assert (stats.n_clear_blocks, stats.n_fuzzy_blocks, stats.host_bytes, stats.lag_s) == (0, 0, 0, 0.0)


def test_an_engine_that_is_closed_says_so(device: str) -> None:
    engine = Engine(TinyModel(device), EngineConfig(session=TINY))
    assert engine.failure is None
    engine.close()
    assert isinstance(engine.failure, EngineError)
    with pytest.raises(EngineError):
        engine.open()
