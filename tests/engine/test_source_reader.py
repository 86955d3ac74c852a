"""Sources pulled into live sessions: files without a drop, live ones as they come, and what goes wrong is told."""

from __future__ import annotations

import math
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from rtsp_camera import fall_silent, hang_up, rtsp_camera
from tiny_model import TinyModel

from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.source_reader import SourceEvent, SourceState
from streamvlm.errors import SourceError, UsageError
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig

WAIT_S = 60
TINY = SessionConfig(host_budget_bytes=1 << 20, max_answer_tokens=3)


@pytest.fixture
def engine(device: str) -> Iterator[Engine]:
    with Engine(TinyModel(device), EngineConfig(session=TINY, frame_queue=4)) as engine:
        yield engine


def write_clip(path: Path) -> Path:
    """Forty frames, ten a second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(40):
            picture = np.full((48, 64, 3), 37 * i % 256, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def pull(live: LiveSession, uri: str, fps: float = 10.0) -> queue.Queue[SourceEvent]:
    events: queue.Queue[SourceEvent] = queue.Queue()
    live.pull(uri, fps=fps, listener=events.put)
    return events


def answer(live: LiveSession) -> Answer:
    told: queue.Queue[object] = queue.Queue()
    live.ask("abc?", told.put)
    while not isinstance(end := told.get(timeout=WAIT_S), Answer):
        pass
    return end


def test_a_file_is_pulled_to_its_end_without_a_drop(engine: Engine, clip: Path) -> None:
    live = engine.open()
    events = pull(live, str(clip))
    assert events.get(timeout=WAIT_S) == SourceEvent(SourceState.OPENED)
    assert events.get(timeout=WAIT_S) == SourceEvent(SourceState.ENDED, 40)
    assert answer(live).asked_at_s == pytest.approx(3.9)
    stats = live.stats()
    assert (stats.n_offered, stats.n_dropped, stats.lag_s) == (40, 0, 0)


def test_of_a_live_source_the_latest_frames_win(engine: Engine, tmp_path: Path) -> None:
    live = engine.open()
    # As if the disk were behind: nothing is watched for now.
    live.scheduled._reach_s = lambda: -1.0  # type: ignore[method-assign]
    with broadcast(write_clip(tmp_path / "clip.ts").read_bytes()) as uri:
        events = pull(live, uri)
        assert events.get(timeout=WAIT_S).state is SourceState.OPENED
        last = events.get(timeout=WAIT_S)
    stats = live.stats()
    assert stats.n_offered == last.n_frames >= 30
    assert (stats.n_waiting, stats.n_dropped) == (4, last.n_frames - 4)
    assert stats.lag_s >= 2.9
    live.scheduled._reach_s = lambda: math.inf  # type: ignore[method-assign]
    answer(live)
    assert len(live.timeline().decisions) == 4
    assert live.stats().lag_s == 0


@contextmanager
def broadcast(data: bytes) -> Iterator[str]:
    """Sends this to the first that connects, and hangs up; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send() -> None:
            line, _ = listener.accept()
            with line:
                line.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_the_next_source_goes_on_from_there(engine: Engine, clip: Path) -> None:
    live = engine.open()
    for _ in range(2):
        events = pull(live, str(clip), fps=2)
        assert [events.get(timeout=WAIT_S).state for _ in range(2)] == [SourceState.OPENED, SourceState.ENDED]
        live._reader._thread.join()  # type: ignore[union-attr]
    answer(live)
    times = [decision.time_s for decision in live.timeline().decisions]
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8])


def test_a_file_that_ends_early_is_pulled_with_a_warning(engine: Engine, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    events = pull(engine.open(), str(path))
    assert events.get(timeout=WAIT_S).state is SourceState.OPENED
    last = events.get(timeout=WAIT_S)
    assert (last.state, last.error) == (SourceState.ENDED, None)
    assert f"{path} ended at 0:0" in str(last.warning)


def test_a_camera_that_drops_is_pulled_again_and_that_is_noticed(engine: Engine, tmp_path: Path) -> None:
    notices: queue.Queue[str] = queue.Queue()
    live = engine.open()
    live.on_notice(notices.put)
    with rtsp_camera(write_clip(tmp_path / "clip.ts").read_bytes(), hang_up, fall_silent) as camera:
        events = pull(live, camera.url)
        assert events.get(timeout=WAIT_S).state is SourceState.OPENED
        assert notices.get(timeout=WAIT_S) == f"{camera.url} hung up; check that it is up. Trying again for 30 s."
        assert notices.get(timeout=WAIT_S) == f"{camera.url} is back."
        live.stop_pulling()
    assert events.get(timeout=WAIT_S).state is SourceState.STOPPED


def test_what_cannot_be_opened_is_told(engine: Engine, tmp_path: Path) -> None:
    live = engine.open()
    event = pull(live, str(tmp_path / "missing.mp4")).get(timeout=WAIT_S)
    assert event.state is SourceState.FAILED
    assert isinstance(event.error, SourceError)
    assert live.stats().failure is None, "the stream itself can go on"


def test_a_source_that_is_stopped_offers_no_more(engine: Engine, clip: Path) -> None:
    live = engine.open()
    with engine._changed:  # so that nothing is watched, and the file has to wait
        events = pull(live, str(clip))
        with pytest.raises(UsageError, match="pulls a source already"):
            live.pull(str(clip))
        live.stop_pulling()
        n_offered = live.stats().n_offered
    told = [events.get(timeout=WAIT_S)]
    if told[0].state is SourceState.OPENED:  # it was stopped before or after
        told.append(events.get(timeout=WAIT_S))
    assert told[-1].state is SourceState.STOPPED
    assert live.stats().n_offered == n_offered
    events = pull(live, str(clip))
    assert [events.get(timeout=WAIT_S).state for _ in range(2)] == [SourceState.OPENED, SourceState.ENDED]


def test_a_session_that_is_closed_pulls_no_more(engine: Engine, clip: Path) -> None:
    live = engine.open()
    events = pull(live, str(clip))
    assert events.get(timeout=WAIT_S).state is SourceState.OPENED
    live.close()
    last = events.get(timeout=WAIT_S)
    assert last.state in (SourceState.STOPPED, SourceState.ENDED)
    assert live.stats().n_offered == last.n_frames
