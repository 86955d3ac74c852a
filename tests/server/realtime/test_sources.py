"""The server reads a source itself: what a real ffmpeg serves, and nothing that is not allowed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, live_server
from web_site import serving
from websocket_peer import peer

from streamvlm.models.base import VideoLanguageModel
from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError
from streamvlm_server.realtime.sources import check_source

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
PICTURE = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=4"]
ENCODING = ["-c:v", "mpeg2video", "-q:v", "5", "-g", "10"]
HERE = ServerConfig.model_validate(
    {"allowed_media_hosts": ["127.0.0.1", "localhost"], "allowed_media_networks": ["127.0.0.0/8", "::1/128"]}
)


@pytest.fixture(scope="module")
def reader(pocket: VideoLanguageModel) -> Iterator[LiveServer]:
    """A server that may read from this machine."""
    allowed = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"]}
    with live_server(pocket, frame_queue=64, **allowed) as running:
        yield running


async def read(server: LiveServer, url: str) -> tuple[list[dict[str, Any]], str]:
    """Has a server read a source to its end; returns what it told, and its answer afterwards."""
    async with peer(server.url) as client:
        await client.opt_in(events=["stats"])
        await client.send("streamvlm.source.open", url=url, fps=2.0)
        told: list[dict[str, Any]] = []
        while not told or told[-1]["type"] not in ("streamvlm.source.ended", "error"):
            told.append(await client.receive())
        answer = await client.ask("what do you see now?") if told[-1].get("error") is None else ""
        await client.send("session.update", session={"type": "realtime"})
        return [*told, await client.receive("streamvlm.stats")], answer


def of_source(told: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in told if event["type"].startswith("streamvlm.source")]


@needs_ffmpeg
def test_mpeg_ts_over_tcp_from_ffmpeg_is_watched_to_its_end(reader: LiveServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["ffmpeg", "-v", "error", *PICTURE, *ENCODING, "-f", "mpegts", f"tcp://127.0.0.1:{port}?listen=1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as ffmpeg:
        for _ in range(100):
            told, answer = asyncio.run(read(reader, f"tcp://127.0.0.1:{port}"))
            if "streamvlm.source.opened" in of_source(told):
                break  # until then, ffmpeg does not listen yet
        assert ffmpeg.wait(30) == 0
    assert of_source(told) == ["streamvlm.source.opened", "streamvlm.source.ended"]
    assert told[-1]["frames_offered"] >= 6
    assert answer


@needs_ffmpeg
def test_hls_over_http_from_ffmpeg_is_watched_to_its_end(reader: LiveServer, tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    command = ["ffmpeg", "-v", "error", *PICTURE, *ENCODING, "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]
    subprocess.run([*command, str(playlist)], check=True, stdin=subprocess.DEVNULL)

    with serving("127.0.0.1", tmp_path) as site:
        told, answer = asyncio.run(read(reader, f"http://{site.host}/live.m3u8"))
    assert of_source(told) == ["streamvlm.source.opened", "streamvlm.source.ended"]
    assert told[-1]["frames_offered"] == 8
    assert answer


def test_a_source_that_is_not_there_is_told_and_the_session_goes_on(reader: LiveServer) -> None:
    told, _ = asyncio.run(read(reader, "http://127.0.0.1:9/nothing.mp4"))
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
        told, _ = asyncio.run(read(reader, f"http://{site.host}/{path}"))
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
        "http://127.0.0.1:port/",
        "http://",
        "",
    ],
)
def test_what_is_not_allowed_is_not_read(url: str) -> None:
    with pytest.raises(MediaRefusedError):
        asyncio.run(check_source(url, HERE))


@pytest.mark.parametrize(("url", "networks"), [("http://127.0.0.1/", []), ("http://localhost/", ["10.0.0.0/8"])])
def test_an_allowed_name_in_a_private_network_that_is_not_is_not_read_either(url: str, networks: list[str]) -> None:
    config = ServerConfig.model_validate({"allowed_media_hosts": ["*"], "allowed_media_networks": networks})
    with pytest.raises(MediaRefusedError, match="private network"):
        asyncio.run(check_source(url, config))


def test_what_is_allowed_is_read() -> None:
    for url in ("http://127.0.0.1:80/a.m3u8?x=1", "rtsp://user:pass@localhost/cam", "tcp://127.0.0.1:1"):
        asyncio.run(check_source(url, HERE))
