"""Sources that come over a wire, on loopback; and what a hostile address or playlist must not reach."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.frame import Frame, Picture
from streamvlm.ingest.address import redact
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]

PACKETS = 7 * 188
"""Bytes of MPEG-TS in a datagram, as cameras send it."""

REFUSED = [
    "concat:{0}|{0}",
    "subfile,,start,0,end,99999,,:{0}",
    "gopher://127.0.0.1:9/clip.ts",
    "data:video/mp2t;base64,AAAA",
    "pipe:0",
    "fd:0",
    "async:{0}",
    "crypto:{0}",
    "ftp://user:secret@127.0.0.1/clip.ts",
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; /401 wants a password, and /to/X redirects to X."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path.startswith("/401"):
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path; yields host and port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def peer(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Talk to whoever connects; yields host and port. A talk that returns keeps the line open, but silent."""
    hung_up = threading.Event()

    def serve() -> None:
        line, _ = listener.accept()
        with line:
            talk(line)
            hung_up.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            hung_up.set()
            thread.join()


def hang_up(line: socket.socket) -> None:
    line.shutdown(socket.SHUT_RDWR)


def read_until_stalled(uri: str) -> list[Picture]:
    frames: list[Frame] = []
    with open_source(uri, timeout_s=0.8) as source:
        assert source.is_live
        assert source.duration_s is None
        with pytest.raises(SourceStalledError, match="did not answer"):
            frames.extend(source)
    assert all(frame.wall_s for frame in frames)
    return [frame.picture for frame in frames]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "list.m3u8"])
def test_a_recording_on_the_web_plays(name: str, web: str, clip: Clip, which: Which) -> None:
    clip(name, muxer={"hls_time": "1", "hls_list_size": "0"} if name == "list.m3u8" else {})
    for scheme in ("http", "HTTP"):
        with open_source(f"{scheme}://{web}/{name}") as source:
            assert [which(frame.picture) for frame in source] == [0, 10, 20]
            assert not source.is_live


def test_a_local_playlist_may_name_web_segments(web: str, clip: Clip, tmp_path: Path) -> None:
    clip("clip.ts")
    assert len(list(open_source(str(playlist(tmp_path, f"http://{web}/clip.ts"))))) == 3


def test_tcp_is_read_to_its_end(clip: Clip, which: Which) -> None:
    data = clip("clip.ts").read_bytes()

    def talk(line: socket.socket) -> None:
        line.sendall(data)
        hang_up(line)

    with peer(talk) as host, open_source(f"tcp://{host}") as source:
        assert source.is_live
        assert [which(frame.picture) for frame in source] == [0, 10, 20]


def test_a_silent_tcp_peer_is_a_stalled_source(clip: Clip, which: Which) -> None:
    data = clip("clip.ts", n_frames=60).read_bytes()
    with peer(lambda line: line.sendall(data)) as host:
        pictures = read_until_stalled(f"tcp://{host}")
    assert [which(picture) for picture in pictures][:3] == [0, 10, 20]


def test_udp_push_is_read(clip: Clip) -> None:
    data = clip("clip.ts", n_frames=60).read_bytes()
    done = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()

    def push() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            while not done.is_set():
                for i in range(0, len(data), PACKETS):
                    line.sendto(data[i : i + PACKETS], address)
                    done.wait(0.002)

    sender = threading.Thread(target=push)
    sender.start()
    try:
        with open_source(f"udp://{address[0]}:{address[1]}") as source:
            times_s = [next(source).time_s for _ in range(4)]
    finally:
        done.set()
        sender.join()
    assert times_s == sorted(set(times_s))


def test_rtsp_is_read_over_tcp(clip: Clip, which: Which) -> None:
    data = clip("clip.ts", n_frames=60).read_bytes()
    requests: list[str] = []
    with peer(partial(talk_rtsp, data, requests)) as host:
        pictures = read_until_stalled(f"rtsp://{host}/stream")
    assert [which(picture) for picture in pictures][:3] == [0, 10, 20]
    assert [request.split()[0] for request in requests] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert "RTP/AVP/TCP" in requests[2]


def talk_rtsp(data: bytes, requests: list[str], line: socket.socket) -> None:
    """Serve MPEG-TS in RTP, interleaved with the control connection: RFC 2326 §10.12, RFC 2250."""
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
    headers = {
        "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
        "PLAY": "Session: 1\r\n\r\n",
    }
    while not requests or not requests[-1].startswith("PLAY"):
        request = ""
        while not request.endswith("\r\n\r\n"):
            request += line.recv(1).decode()
        requests.append(request)
        sequence = request.partition("CSeq: ")[2].split()[0]
        head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n"
        line.sendall((head + headers.get(request.split()[0], "\r\n")).encode())
    for n, i in enumerate(range(0, len(data), PACKETS)):
        packet = struct.pack(">BBHII", 0x80, 33, n, n * 90, 1) + data[i : i + PACKETS]
        line.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp", "tcp"])
def test_a_host_that_never_answers_is_given_up_in_time(scheme: str) -> None:
    with (
        peer(lambda line: None) as host,
        pytest.raises(SourceStalledError, match=r"did not answer for 0\.2 s"),
    ):
        open_source(f"{scheme}://{host}/live", timeout_s=0.2)


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp", "tcp"])
def test_a_host_that_refuses_the_connection_is_named_without_credentials(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match="Connection refused") as caught:
        open_source(f"{scheme}://user:secret@127.0.0.1:{port}/a?token=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_what_a_web_server_says_is_passed_on(web: str) -> None:
    with pytest.raises(SourceError, match="404 Not Found"):
        open_source(f"http://{web}/missing.mp4")
    with pytest.raises(SourceError, match="asks for other credentials"):
        open_source(f"http://user:wrong@{web}/401")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:pa/ss@wo@rd@camera/live?key=1&k=2", "rtsp://…@camera/live?…"),
        ("http://host/clip.mp4", "http://host/clip.mp4"),
        ("/tmp/who?@home.mp4", "/tmp/who?@home.mp4"),
    ],
)
def test_messages_show_no_credentials(uri: str, shown: str) -> None:
    assert redact(uri) == shown


@pytest.mark.parametrize("uri", REFUSED)
def test_schemes_that_read_more_than_video_are_refused(uri: str, clip: Clip) -> None:
    with pytest.raises(SourceError, match="is refused") as caught:
        open_source(uri.format(clip("clip.ts")))
    assert "secret" not in str(caught.value)


def playlist(folder: Path, line: str) -> Path:
    path = folder / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{line}\n#EXT-X-ENDLIST\n")
    return path


@pytest.mark.parametrize("line", [*REFUSED, "tcp://{tcp}/clip.ts"])
def test_a_playlist_does_not_open_refused_protocols(line: str, web: str, clip: Clip, tmp_path: Path) -> None:
    path = playlist(tmp_path, line.format(clip("clip.ts"), tcp=web))
    for uri in (str(path), f"http://{web}/{path.name}"):
        with pytest.raises(SourceError, match="is no video that can be read"):
            open_source(uri, timeout_s=2)


@pytest.mark.parametrize("line", ["{}", "file:{}", "file://{}"])
def test_only_a_local_playlist_reaches_local_files(line: str, web: str, clip: Clip, tmp_path: Path) -> None:
    path = playlist(tmp_path, line.format(clip("clip.ts")))
    assert len(list(open_source(str(path)))) == 3
    with pytest.raises(SourceError, match="is no video that can be read"):
        open_source(f"http://{web}/{path.name}")


def test_a_redirect_does_not_reach_local_files(web: str, clip: Clip) -> None:
    path = clip("clip.ts")
    assert len(list(open_source(f"http://{web}/to/http://{web}/clip.ts"))) == 3
    with pytest.raises(SourceError):
        open_source(f"http://{web}/to/file://{path}", timeout_s=2)
