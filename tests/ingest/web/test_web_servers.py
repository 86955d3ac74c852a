"""Web servers as they are: credentials, certificates, proxies, bodies of unknown length, and no way to seek."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import trustme
from web_site import Handler, Site, serving

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.frame import Picture
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]

OK = "HTTP/1.1 200 OK"


def shown(which: Which, url: str) -> list[int]:
    with open_source(url, timeout_s=5) as source:
        return [which(frame.picture) for frame in source]


# --- credentials ---

USER, PASSWORD = "operator", "p:4 @ß"
WRITTEN = "operator:p:4%20@%C3%9F"  # people leave what they can


def wants(scheme: str, data: bytes) -> Callable[[Handler], None]:
    """A camera that wants to be told who asks."""

    def answer(handler: Handler) -> None:
        told = handler.headers.get("Authorization", "")
        if is_told(scheme, told):
            handler.say(OK, f"Content-Length: {len(data)}")
            handler.wfile.write(data)
            return
        challenges = {
            "Basic": ['WWW-Authenticate: Basic realm="camera"'],
            "Digest": ['WWW-Authenticate: Digest realm="camera", nonce="abc", qop="auth", algorithm=MD5'],
        }
        both = [*challenges["Basic"], *challenges["Digest"]]
        handler.say("HTTP/1.1 401 Unauthorized", *challenges.get(scheme, both), "Content-Length: 0")

    return answer


def is_told(scheme: str, told: str) -> bool:
    if scheme == "Basic":
        return told == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    parts = dict(re.findall(r'(\w+)="?([^",]+)"?', told))
    return told.startswith("Digest ") and parts["response"] == md5(
        md5(USER, "camera", PASSWORD), parts["nonce"], parts["nc"], parts["cnonce"], parts["qop"],
        md5("GET", parts["uri"]),
    )  # fmt: skip


def md5(*words: str) -> str:
    return hashlib.md5(":".join(words).encode()).hexdigest()


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "both"])
@pytest.mark.parametrize("is_admitted", [True, False])
def test_credentials_in_a_url_are_given_as_a_camera_wants_them(
    scheme: str, is_admitted: bool, web: Site, clip: Clip, which: Which
) -> None:
    web.scripts["/clip.ts"] = wants(scheme, clip("clip.ts").read_bytes())
    admit = (lambda url: ["127.0.0.1"]) if is_admitted else None
    with open_source(f"http://{WRITTEN}@{web.host}/clip.ts", admit=admit) as source:
        assert [which(frame.picture) for frame in source] == [0, 10, 20]
    with pytest.raises(SourceError, match=r"http://…@.* asks for other credentials") as caught:
        open_source(f"http://{USER}:wrong@{web.host}/clip.ts", admit=admit)
    assert "wrong" not in str(caught.value)


def test_what_a_playlist_names_on_the_same_host_is_asked_for_with_its_credentials_and_no_other_host_hears_them(
    web: Site, clip: Clip, tmp_path: Path, which: Which
) -> None:
    data = clip("clip.ts").read_bytes()
    web.scripts["/clip.ts"] = wants("Digest", data)
    heard: list[str | None] = []
    with serving("127.0.0.2", tmp_path) as other:

        def listen(handler: Handler) -> None:
            heard.append(handler.headers.get("Authorization"))
            handler.say(OK, f"Content-Length: {len(data)}")
            handler.wfile.write(data)

        other.scripts["/clip.ts"] = listen
        lines = (
            f"http://{web.host}/clip.ts",
            "clip.ts",
            f"http://{other.host}/clip.ts",
            f"/to/http://{other.host}/clip.ts",
        )
        text = "".join(f"#EXT-X-DISCONTINUITY\n#EXTINF:3,\n{line}\n" for line in lines)
        web.answers["/list.m3u8"] = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n{text}#EXT-X-ENDLIST\n".encode
        assert shown(which, f"http://{WRITTEN}@{web.host}/list.m3u8") == [0, 10, 20] * 4
    assert heard == [None, None]


# --- certificates ---


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(tmp_path: Path, authority: trustme.CA) -> Iterator[Site]:
    """A camera whose certificate is its own."""
    with serving("127.0.0.1", tmp_path) as site:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        site.socket = context.wrap_socket(site.socket, server_side=True)
        yield site


def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_mend_works(
    secure: Site, authority: trustme.CA, clip: Clip, which: Which, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip("clip.ts")
    url = f"https://{secure.host}/clip.ts"
    with pytest.raises(
        SourceError, match=r"certificate that is not trusted \(.*\); name a file with it in SSL_CERT_FILE"
    ):
        open_source(url)
    authority.cert_pem.write_to_path(tmp_path / "camera.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "camera.pem"))
    assert shown(which, url) == [0, 10, 20]
    with open_source(url, admit=lambda url: ["127.0.0.1"]) as source:
        assert len(list(source)) == 3


# --- proxies ---


def test_the_environments_proxy_is_asked_unless_addresses_are_admitted(
    web: Site, clip: Clip, which: Which, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clip("clip.ts").read_bytes()
    url = "http://somewhere.invalid/clip.ts"
    web.answers[url] = lambda: data  # a proxy is asked for the whole URL
    monkeypatch.setenv("http_proxy", f"http://{web.host}")
    assert shown(which, url) == [0, 10, 20]
    web.answers.clear()
    with open_source(f"http://somewhere.invalid:{web.server_port}/clip.ts", admit=lambda url: ["127.0.0.1"]) as source:
        assert len(list(source)) == 3


# --- bodies of unknown length ---


def unknown_length(handler: Handler, data: bytes, how: str) -> None:
    if how == "chunked":
        handler.say(OK, "Transfer-Encoding: chunked")
        for place in range(0, len(data), 1000):
            handler.chunk(data[place : place + 1000])
        handler.chunk(b"")
    else:
        handler.say("HTTP/1.0 200 OK")
        handler.wfile.write(data)


@pytest.mark.parametrize("how", ["chunked", "closed at its end"])
@pytest.mark.parametrize("name", ["clip.ts", "clip.mkv", "clip.flv", "clip.h264", "fast.mp4", "clip.mp4"])
def test_a_video_of_unknown_length_is_whole_when_it_ends(
    name: str, how: str, web: Site, clip: Clip, which: Which
) -> None:
    muxer = {"movflags": "faststart"} if name == "fast.mp4" else {}
    data = clip(name, muxer=muxer).read_bytes()
    web.scripts["/video"] = lambda handler: unknown_length(handler, data, how)
    with open_source(f"http://{web.host}/video", fps=1000) as source:
        assert [which(frame.picture) for frame in source] == list(range(30))
        assert not source.is_live


def test_a_chunked_video_that_is_cut_off_is_told(web: Site, clip: Clip) -> None:
    data = clip("clip.ts").read_bytes()

    def cut(handler: Handler) -> None:
        handler.say(OK, "Transfer-Encoding: chunked")
        handler.chunk(data[: len(data) * 2 // 3])

    web.scripts["/video"] = cut
    with open_source(f"http://{web.host}/video") as source:
        with pytest.raises(SourceStalledError, match=r"cannot be read \(.*incomplete"):
            list(source)
        assert source.n_frames > 0


def test_an_endless_stream_is_live(web: Site, clip: Clip, which: Which) -> None:
    data, is_over = clip("clip.ts", n_frames=60).read_bytes(), threading.Event()

    def endless(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK")
        handler.wfile.write(data)
        is_over.wait()

    web.scripts["/video"] = endless
    with open_source(f"http://{web.host}/video", timeout_s=0.5) as source:
        assert source.is_live
        assert which(next(source).picture) == 0
    is_over.set()


def test_what_comes_far_faster_than_it_plays_is_a_recording(web: Site, clip: Clip) -> None:
    data, is_over = clip("clip.ts", n_frames=50, fps=1).read_bytes(), threading.Event()

    def hold(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK")
        handler.wfile.write(data)
        is_over.wait()

    web.scripts["/video"] = hold
    with open_source(f"http://{web.host}/video") as source:
        assert source.is_live
        while source.is_live:
            newest = next(source)
        assert newest.time_s == 31
        is_over.set()
        assert len(list(source)) == 50 - 32


def test_raw_video_has_the_time_at_which_it_came(web: Site, clip: Clip, which: Which) -> None:
    pictures = (
        clip("clip.mjpeg", codec="mjpeg", pixel_format="yuvj420p", n_frames=6).read_bytes().split(b"\xff\xd8")[1:]
    )
    is_over = threading.Event()

    def camera(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", "Content-Type: video/x-motion-jpeg")
        for picture in pictures:
            handler.wfile.write(b"\xff\xd8" + picture)
            is_over.wait(0.15)

    web.scripts["/video"] = camera
    with open_source(f"http://{web.host}/video", fps=1000) as source:
        frames = list(source)
    assert [which(frame.picture) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert frames[-1].time_s > 0.4  # of 0.75; at 25 pictures a second it would be 0.2


@pytest.mark.parametrize("size", ["9" * 5000, "-1", "many"])
def test_a_size_that_is_none_is_not_known(size: str, web: Site, clip: Clip, which: Which) -> None:
    data = clip("clip.ts").read_bytes()

    def answer(handler: Handler) -> None:
        handler.say("HTTP/1.1 206 Partial Content", f"Content-Range: bytes 0-9/{size}", "Connection: close")
        handler.wfile.write(data)

    web.scripts["/video"] = answer
    assert shown(which, f"http://{web.host}/video") == [0, 10, 20]


# --- no way to seek ---


def test_an_index_at_the_end_is_fetched_within_limits_where_nobody_can_seek(
    web: Site, clip: Clip, which: Which
) -> None:
    clip("clip.mp4")
    web.sends_parts = False
    url = f"http://{web.host}/clip.mp4"
    with open_source(url) as source:
        assert [which(frame.picture) for frame in source] == [0, 10, 20]
        assert (source.duration_s, source.is_live) == (3, False)
    with pytest.raises(
        SourceError, match="has its index at its end, comes from where nobody can seek, and has more than"
    ):
        open_source(url, max_kept_bytes=1000)


@pytest.mark.parametrize("name", ["still.png", "still.jpg"])
def test_a_picture_on_the_web_is_a_picture(name: str, web: Site, clip: Clip, which: Which, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), 40, np.uint8))
    data = (tmp_path / name).read_bytes()

    def answer(handler: Handler) -> None:
        handler.say(OK, "Content-Type: image/any", "Transfer-Encoding: chunked")
        handler.chunk(data)
        handler.chunk(b"")

    web.scripts["/chunked"] = answer
    for path in (name, "chunked"):
        assert shown(which, f"http://{web.host}/{path}") == [5]


# --- servers that keep one waiting ---


@pytest.mark.parametrize("trickles", ["its head", "a video"])
def test_a_server_that_trickles_is_given_up_in_time(trickles: str, web: Site) -> None:
    is_over = threading.Event()

    def trickle(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"Content-Length: 1000000\r\n\r\n" * (trickles == "a video"))
        while not is_over.wait(0.05):
            handler.wfile.write(b"x")

    web.scripts["/clip.ts"] = trickle
    with pytest.raises(SourceStalledError, match=r"did not answer for 0\.5 s"):
        open_source(f"http://{web.host}/clip.ts", timeout_s=0.5)
    is_over.set()
