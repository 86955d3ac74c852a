"""The server reads a source itself: what a real ffmpeg pushes in real time, and nothing that is not allowed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from live_server import LiveServer, live_server
from remux import remux
from viewer import Said, Viewer, viewer
from web_site import Handler, Site, serving
from websocket_peer import as_jpeg, peer

from streamvlm.errors import SourceError
from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import make_world
from streamvlm.world.questions import Examiner, WorldQuestion, judge
from streamvlm.world.render import render
from streamvlm.world.video import write_video
from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError
from streamvlm_server.untrusted.source_url import check_source

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
WORLD = make_world(4_000_354, 14)  # a pink heart from 1.4 s to 7.7 s, a blue diamond from 9.8 s on
ENCODING = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "5"]  # a key frame a second
HERE = ServerConfig.model_validate(
    {"allowed_media_hosts": ["127.0.0.1", "localhost"], "allowed_media_networks": ["127.0.0.0/8", "::1/128"]}
)


@pytest.fixture(scope="module")
def reader(pocket: VideoLanguageModel) -> Iterator[LiveServer]:
    """A server that may read from this machine."""
    allowed = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"]}
    with live_server(pocket, frame_queue=64, **allowed) as running:
        yield running


async def read(server: LiveServer, url: str) -> list[dict[str, Any]]:
    """Has a server read a source to its end; returns what it told."""
    async with peer(server.url) as client:
        await client.opt_in()
        await client.send("streamvlm.source.open", url=url)
        told = [await client.receive()]
        while told[-1]["type"] not in ("streamvlm.source.ended", "error"):
            told.append(await client.receive())
        return told


def of_source(told: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in told if event["type"].startswith("streamvlm.source")]


# --- a world, in real time ---


@dataclass(frozen=True)
class Asked:
    """A question as it was fair at the moment that its answer looks back from, and that answer."""

    question: WorldQuestion
    said: Said

    def check(self) -> None:
        """Is right, and for the right reason."""
        asked, said = self.question, self.said
        assert judge(asked, said.text), self
        if asked.start_s is not None and asked.end_s is not None:
            first_s, last_s = asked.start_s - 1, asked.end_s + 1
            assert any(start_s <= last_s and end_s >= first_s for start_s, end_s in said.evidence), self


@dataclass(frozen=True)
class Watched:
    """What was asked while a source was being pushed and after its end."""

    during: list[Asked]
    after: list[Asked]


def fair(asked_at_s: float) -> dict[str, WorldQuestion]:
    """All that can be asked at a moment with one right answer, of the present and of what was there first, by kind."""
    examiner = Examiner(WORLD, np.random.default_rng(0))
    return {q.kind: q for q in (*examiner.now(asked_at_s), *examiner.about(0, asked_at_s), examiner.never(asked_at_s))}


async def ask(face: Callable[[str], Awaitable[Said]], kind: str, about_s: float) -> Asked:
    """Asks what is fair at a moment; once more, where by now it is no more."""
    while True:
        said = await face(fair(about_s)[kind].text)
        if (question := fair(said.asked_at_s).get(kind)) is not None:
            return Asked(question, said)


async def watch(viewer: Viewer, url: str) -> Watched:
    """Has a source read to its end, and asks by both faces of the package: what is there, and what was."""
    await viewer.open(url, fps=2.0)
    await viewer.reach(3.5)
    during = [await ask(face, "now_what", 3.5) for face in (viewer.over_http, viewer.over_websocket)]
    await viewer.reach(9.0)
    during += [await ask(viewer.over_http, "badge", 9.0), await ask(viewer.over_websocket, "where", 9.0)]
    ended = await viewer.event("streamvlm.source.ended")  # no sooner than the answer before
    assert ended.error is None, ended
    after = [
        await ask(face, kind, WORLD.duration_s - 0.5)
        for kind in ("now_what", "now_where", "where", "seen", "never", "order")
        for face in (viewer.over_http, viewer.over_websocket)
    ]
    return Watched(during, after)


async def push_ts(clip: Path, server: LiveServer, opened: ExitStack) -> Watched:
    """MPEG-TS, over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ffmpeg = start_ffmpeg(opened, clip, "-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1")
    async with viewer(server.url) as client:
        watched = await watch(client, f"tcp://127.0.0.1:{port}")
    assert await asyncio.to_thread(ffmpeg.wait, 30) == 0
    return watched


async def push_hls(clip: Path, server: LiveServer, opened: ExitStack, site: Site) -> Watched:
    """A playlist that grows, and the segments of its last seconds, over HTTP."""
    flags = ["-hls_time", "1", "-hls_list_size", "4", "-hls_flags", "delete_segments"]
    playlist = site.folder / "live.m3u8"
    async with viewer(server.url) as client:  # first: connecting may take longer than segments stay
        ffmpeg = start_ffmpeg(opened, clip, "-f", "hls", *flags, str(playlist))
        while not playlist.exists():
            assert ffmpeg.poll() is None
            await asyncio.sleep(0.05)
        watched = await watch(client, f"http://{site.host}/live.m3u8")
    assert await asyncio.to_thread(ffmpeg.wait, 30) == 0
    return watched


def start_ffmpeg(opened: ExitStack, clip: Path, *output: str) -> subprocess.Popen[bytes]:
    """Pushes a clip in real time, until it is at its end or the test is."""
    command = ["ffmpeg", "-v", "error", "-re", "-i", str(clip), *ENCODING, *output]
    running = opened.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL))
    opened.callback(running.terminate)  # before it is waited for
    return running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving("127.0.0.1", tmp_path_factory.mktemp("hls")) as running:
        yield running


@pytest.fixture(scope="module")
def watched(reader: LiveServer, site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """Both transports, at once."""
    clip = tmp_path_factory.mktemp("world") / "world.mp4"
    write_video(WORLD, clip)

    async def both() -> dict[str, Watched]:
        with ExitStack() as opened:
            pushed = await asyncio.gather(push_ts(clip, reader, opened), push_hls(clip, reader, opened, site))
        return dict(zip(("mpeg-ts over tcp", "hls over http"), pushed, strict=True))

    return asyncio.run(both())


@needs_ffmpeg
@pytest.mark.parametrize("transport", ["mpeg-ts over tcp", "hls over http"])
def test_what_is_pushed_in_real_time_is_answered_right_while_it_comes(
    transport: str, watched: dict[str, Watched]
) -> None:
    for asked in watched[transport].during:
        asked.check()


@needs_ffmpeg
@pytest.mark.parametrize("transport", ["mpeg-ts over tcp", "hls over http"])
def test_what_was_pushed_in_real_time_is_answered_right_when_it_has_ended(
    transport: str, watched: dict[str, Watched]
) -> None:
    for asked in watched[transport].after:
        asked.check()


@needs_ffmpeg
def test_the_playlist_grew_while_it_was_read_and_lost_its_first_segments(
    watched: dict[str, Watched], site: Site
) -> None:
    assert watched
    segments = [path for _, path in site.asked if path.endswith(".ts")]
    assert segments[0] == "/live0.ts"
    assert len(segments) > 10  # the playlist names four at a time
    left = {f"/{file.name}" for file in site.folder.glob("*.ts")}
    assert segments[-1] in left
    assert segments[0] not in left


# --- what comes in other shapes ---


def as_mjpeg(site: Site) -> str:
    """Two pictures a second, at once, with the times that a camera states."""
    parts = []
    for number in range(int(2 * WORLD.duration_s)):
        body = as_jpeg(render(WORLD, number / 2))
        told = f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\nX-Timestamp: {number / 2:.6f}"
        parts.append(f"--camera\r\n{told}\r\n\r\n".encode() + body + b"\r\n")

    def answer(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", 'Content-Type: multipart/x-mixed-replace; boundary="--camera"')
        handler.wfile.write(b"".join(parts))

    site.scripts["/mjpeg"] = answer
    return "mjpeg"


def as_encrypted_hls(site: Site) -> str:
    """Two segments, whose times leap, each encrypted."""
    key, lines = bytes(range(16)), ""
    site.answers["/key"] = lambda: key
    for number, offset_s in enumerate((5000, 77)):
        path = site.folder / f"{number}.ts"
        with av.open(str(path), "w", options={"output_ts_offset": str(offset_s)}) as out:
            stream: Any = out.add_stream("libx264", rate=10, options={"g": "10"})
            stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
            for n in range(70):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(render(WORLD, 7 * number + n / 10), format="rgb24")))
            out.mux(stream.encode())
        padder, encryptor = PKCS7(128).padder(), Cipher(AES(key), CBC(number.to_bytes(16, "big"))).encryptor()
        path.write_bytes(encryptor.update(padder.update(path.read_bytes()) + padder.finalize()) + encryptor.finalize())
        lines += f"#EXT-X-DISCONTINUITY\n#EXTINF:7,\n{path.name}\n"
    head = '#EXTM3U\n#EXT-X-TARGETDURATION:7\n#EXT-X-KEY:METHOD=AES-128,URI="key"\n'
    site.answers["/list.m3u8"] = f"{head}{lines}#EXT-X-ENDLIST\n".encode
    return "list.m3u8"


def as_mp4_where_nobody_can_seek(site: Site) -> str:
    write_video(WORLD, site.folder / "world.mp4")
    site.sends_parts = False
    return "world.mp4"


@pytest.mark.parametrize("shape", [as_mjpeg, as_encrypted_hls, as_mp4_where_nobody_can_seek])
def test_whatever_shape_a_source_on_the_web_has_its_times_are_right(
    shape: Callable[[Site], str], reader: LiveServer, tmp_path: Path
) -> None:
    async def watched(url: str) -> list[Asked]:
        async with viewer(reader.url) as client:
            await client.open(url, fps=2.0)
            ended = await client.event("streamvlm.source.ended")
            assert ended.error is None, ended
            return [await ask(client.over_websocket, kind, WORLD.duration_s - 0.5) for kind in ("now_what", "where")]

    with serving("127.0.0.1", tmp_path) as site:
        for asked in asyncio.run(watched(f"http://{site.host}/{shape(site)}")):
            assert asked.said.asked_at_s == pytest.approx(WORLD.duration_s - 0.5, abs=0.2)
            asked.check()


def test_a_video_that_would_have_to_be_fetched_whole_is_bounded(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    allowed = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"], "max_video": 1000}
    with live_server(pocket, **allowed) as server, serving("127.0.0.1", tmp_path) as site:
        told = asyncio.run(read(server, f"http://{site.host}/{as_mp4_where_nobody_can_seek(site)}"))
    (ended,) = (event for event in told if event["type"] == "streamvlm.source.ended")
    assert "has more than the 1000B that may be fetched" in ended["error"]


# --- what ends early ---


def test_a_source_that_ends_early_ends_with_a_warning(reader: LiveServer, tmp_path: Path) -> None:
    write_video(WORLD, tmp_path / "clip.mp4")
    data = remux(tmp_path / "clip.mp4", tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 6 // 10])
    with serving("127.0.0.1", tmp_path) as site:
        for name, is_whole in (("clip.mkv", True), ("cut.mkv", False)):
            *_, ended = asyncio.run(read(reader, f"http://{site.host}/{name}"))
            assert (ended["type"], ended["error"]) == ("streamvlm.source.ended", None)
            assert (ended["warning"] is None) is is_whole
    assert f"http://{site.host}/cut.mkv ended at 0:" in ended["warning"]


# --- what is not there, or not allowed ---


def test_a_source_that_is_not_there_is_told_and_the_session_goes_on(reader: LiveServer) -> None:
    told = asyncio.run(read(reader, "http://127.0.0.1:9/nothing.mp4"))
    (ended,) = (event for event in told if event["type"] == "streamvlm.source.ended")
    assert "127.0.0.1" in ended["error"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.2:{port}/clip.ts", "Sources on '127.0.0.2' are not read here"),
        ("http://localhost:{port}/clip.ts", "Sources on 'localhost' are not read here"),
        ("file:///etc/passwd.ts", "Sources of 'file' are not read here"),
    ],
)
@pytest.mark.parametrize("way", ["redirect", "segment"])
def test_where_an_allowed_host_leads_is_looked_at_as_well(
    way: str, target: str, reason: str, reader: LiveServer, tmp_path: Path
) -> None:
    with serving("127.0.0.1", tmp_path) as site, serving("127.0.0.2", tmp_path) as forbidden:
        target = target.format(port=forbidden.server_port)
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n"
        site.answers["/list.m3u8"] = playlist.encode
        path = f"to/{target}" if way == "redirect" else "list.m3u8"
        told = asyncio.run(read(reader, f"http://{site.host}/{path}"))
        assert forbidden.asked == []
    (ended,) = (event for event in told if event["type"] == "streamvlm.source.ended")
    assert ended["error"].startswith(reason)
    assert "streamvlm.source.opened" not in of_source(told)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "concat:a|b",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "gopher://127.0.0.1/",
        "udp://127.0.0.1:1",
        "tcp://127.0.0.1:1?listen=1",
        "http://example.org/",
        "http://127.0.0.1.nip.io/",
        "http://[::1]/",
        "http://user@example.org@127.0.0.1:80@example.org/",
        "",
    ],
)
def test_what_is_not_allowed_is_not_read(url: str) -> None:
    with pytest.raises(MediaRefusedError):
        asyncio.run(check_source(url, HERE))


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/", "http://[::1/", "http://"])
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(SourceError, match="cannot be read; write it as scheme://host/path"):
        asyncio.run(check_source(url, HERE))


@pytest.mark.parametrize(("url", "networks"), [("http://127.0.0.1/", []), ("http://localhost/", ["10.0.0.0/8"])])
def test_an_allowed_name_in_a_private_network_that_is_not_is_not_read_either(url: str, networks: list[str]) -> None:
    config = ServerConfig.model_validate({"allowed_media_hosts": ["*"], "allowed_media_networks": networks})
    with pytest.raises(MediaRefusedError, match="private network"):
        asyncio.run(check_source(url, config))


def test_what_is_allowed_is_read() -> None:
    for url in ("http://127.0.0.1:80/a.m3u8?x=1", "rtsp://user:pass@localhost/cam", "tcp://127.0.0.1:1"):
        asyncio.run(check_source(url, HERE))
