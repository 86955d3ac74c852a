"""Sources that stall, drop and come back, over real sockets: nothing is lost, times go on, and waiting has an end."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from junk import write_with_junk
from rtsp_camera import fall_silent, hang_up, never_answer, rtsp_camera, send_sound

from streamvlm.errors import SourceError, SourceLostError, SourceStalledError
from streamvlm.frame import Frame, Picture
from streamvlm.ingest.container import MAX_BAD_PACKETS
from streamvlm.ingest.read_ahead import ReadAhead
from streamvlm.ingest.reconnecting import ReconnectingSource
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]
TIMEOUT_S = 0.4


def lasting(uri: str, reconnect_s: float = 0.0, *, fps: float = 10.0, **how: object) -> ReconnectingSource:
    return ReconnectingSource(
        partial(open_source, uri, fps=fps, timeout_s=TIMEOUT_S),
        reconnect_s=reconnect_s,
        **how,  # type: ignore[arg-type]
    )


def read_until_lost(source: ReconnectingSource) -> tuple[list[Frame], str]:
    frames: list[Frame] = []
    with pytest.raises(SourceLostError) as lost:
        frames.extend(source)
    source.close()
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert lost.value.exit_code == 3
    return frames, str(lost.value)


@pytest.fixture
def pictures(clip: Clip) -> bytes:
    """Three seconds of MPEG-TS."""
    return clip("clip.ts").read_bytes()


@pytest.mark.parametrize("then", [fall_silent, hang_up, send_sound])
def test_a_camera_that_goes_quiet_is_given_up_in_words(
    then: Callable[..., None], pictures: bytes, which: Which
) -> None:
    with rtsp_camera(pictures, then) as camera:
        frames, told = read_until_lost(lasting(camera.url))
    assert [which(frame.picture) for frame in frames][:20] == list(range(20))
    assert told.startswith(f"Nothing has come from {camera.url} since 0:03 (")


@pytest.mark.parametrize(
    ("then", "noticed"),
    [
        (fall_silent, "did not answer for 0.4 s"),
        (hang_up, "hung up"),
        (send_sound, "showed nothing for 0.4 s"),
        (never_answer, "did not answer for 0.4 s"),
    ],
)
def test_silence_of_a_camera_is_noticed(then: Callable[..., None], noticed: str, pictures: bytes) -> None:
    with rtsp_camera(pictures, then) as camera, pytest.raises(SourceStalledError, match=noticed):
        list(open_source(camera.url, timeout_s=TIMEOUT_S))


def test_a_camera_that_comes_back_is_watched_on_and_the_gap_stays(pictures: bytes, which: Which) -> None:
    told: list[str] = []
    with rtsp_camera(pictures, hang_up, hang_up, fall_silent) as camera:
        frames, _ = read_until_lost(lasting(camera.url, 2.5, tell=told.append))
    times_s = [frame.time_s for frame in frames]
    starts = [n for n, frame in enumerate(frames) if which(frame.picture) == 0]
    assert len(starts) == 3
    assert times_s == sorted(set(times_s))
    for n in starts[1:]:
        assert times_s[n] - times_s[n - 1] > 0.45, "no sooner than it was tried again"
    assert [line.partition(" ")[2] for line in told[:2]] == [
        "hung up; check that it is up. Trying again for 2 s.",
        "is back.",
    ]


def test_a_camera_that_never_showed_anything_is_an_error_at_once(pictures: bytes) -> None:
    with rtsp_camera(pictures, never_answer) as camera, pytest.raises(SourceStalledError, match="did not answer"):
        lasting(camera.url, 60)
    with rtsp_camera(b"", hang_up) as camera, pytest.raises(SourceError):
        list(lasting(camera.url, 60))


def test_a_stream_that_was_watched_before_goes_on_later(clip: Clip) -> None:
    path = clip("clip.mkv")
    assert [frame.time_s for frame in lasting(str(path), fps=1, from_s=7.5)] == pytest.approx([7.5, 8.5, 9.5])


def test_a_file_that_is_damaged_amid_is_watched_up_to_there(tmp_path: Path) -> None:
    path = write_with_junk(tmp_path / "clip.mkv", n_junk=MAX_BAD_PACKETS)
    frames, told = read_until_lost(lasting(str(path), 60))
    assert len(frames) == 10
    assert told.endswith("It was watched up to 0:01.")


class HalfSender(http.server.BaseHTTPRequestHandler):
    """Sends the first part of a file, and hangs up, so many times; then all of it. Its length is told or not."""

    protocol_version = "HTTP/1.1"
    data = b""
    n_cut = 1
    is_told = True

    def do_GET(self) -> None:
        kind = type(self)
        kind.n_cut -= 1
        sent = self.data[: len(self.data) * 6 // 10] if kind.n_cut >= 0 else self.data
        self.send_response(200)
        if self.is_told:
            self.send_header("Content-Length", str(len(self.data)))
            self.end_headers()
            self.wfile.write(sent)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent) + (b"" if kind.n_cut >= 0 else b"0\r\n\r\n"))
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def half_server(data: bytes, n_cut: int, *, is_told: bool = True) -> Iterator[str]:
    handler = type("Handler", (HalfSender,), {"data": data, "n_cut": n_cut, "is_told": is_told})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/clip.mp4"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_that_breaks_off_once_is_watched_to_its_end_without_a_picture_twice(clip: Clip) -> None:
    path = clip("clip.mp4", size=(320, 240), codec="mpeg4", muxer={"movflags": "faststart"})
    with half_server(path.read_bytes(), n_cut=1) as uri:
        source = lasting(uri, 5)
        frames = list(source)
    assert source.n_corrupt_packets == 0, "the packet that was cut came whole at last"
    whole = list(open_source(str(path), fps=10))
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in whole]
    for frame, expected in zip(frames, whole, strict=True):
        np.testing.assert_array_equal(frame.picture, expected.picture)


def test_a_download_that_breaks_off_each_time_is_watched_as_far_as_it_goes(clip: Clip) -> None:
    path = clip("clip.mp4", size=(320, 240), codec="mpeg4", muxer={"movflags": "faststart"})
    with half_server(path.read_bytes(), n_cut=100) as uri:
        once, source = open_source(uri), lasting(uri, 1.2)
        with pytest.raises(SourceStalledError):
            list(once)
        frames, told = read_until_lost(source)
    assert source.n_corrupt_packets == once.n_corrupt_packets > 0, "what is cut is cut once, however often it came"
    assert 10 < len(frames) < 20
    assert told.startswith(f"Nothing has come from {uri} since 0:02 of 0:03 (")


@pytest.mark.parametrize(("n_cut", "n_frames"), [(1, 120), (100, 72)])
def test_so_is_one_that_does_not_tell_its_length(n_cut: int, n_frames: int, clip: Clip) -> None:
    data = clip("clip.ts", n_frames=120).read_bytes()
    with half_server(data, n_cut, is_told=False) as uri:
        frames: list[Frame] = []
        with suppress(SourceLostError):
            frames.extend(lasting(uri, 1.2))
    assert abs(len(frames) - n_frames) < 10
    gaps_s = np.diff([frame.time_s for frame in frames])
    assert 0.09 < gaps_s.min() <= gaps_s.max() < 0.31, "no picture twice, and none missing but where it was cut"


# --- read ahead, on a thread ---


def test_reading_ahead_gives_every_frame_and_says_how_the_source_is(clip: Clip, which: Which) -> None:
    with ReadAhead(lambda: lasting(str(clip("clip.mkv")))) as frames:
        assert (frames.source.is_live, frames.source.duration_s) == (False, 3.0)
        assert [which(frame.picture) for frame in frames] == list(range(30))
        assert list(frames) == []


def test_reading_ahead_waits_for_who_is_slow(clip: Clip) -> None:
    with ReadAhead(lambda: lasting(str(clip("clip.mkv")))) as frames:
        first = next(frames)
        while len(frames._waiting) < 4:
            threading.Event().wait(0.01)
        threading.Event().wait(0.05)
        assert len(frames._waiting) == 4
        assert [frame.index for frame in (first, *frames)] == list(range(30))


def test_what_cannot_be_opened_or_is_lost_is_told_where_frames_are_waited_for(pictures: bytes) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        ReadAhead(lambda: lasting("missing.mp4"))
    with rtsp_camera(pictures, hang_up) as camera, ReadAhead(lambda: lasting(camera.url)) as frames:
        seen: list[Frame] = []
        with pytest.raises(SourceLostError, match="Nothing has come from"):
            seen.extend(frames)
        assert len(seen) > 20


def test_who_waits_for_a_silent_camera_can_stop_at_once(pictures: bytes) -> None:
    def opens() -> ReconnectingSource:
        return ReconnectingSource(partial(open_source, camera.url, fps=10), reconnect_s=600)

    with rtsp_camera(pictures, fall_silent) as camera, ReadAhead(opens) as frames:
        stopping = threading.Timer(0.2, frames.stop)
        stopping.start()
        assert len(list(frames)) > 20
        stopping.join()
