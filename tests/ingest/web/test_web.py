"""Web sources that nobody vouches for, over real sockets: 127.0.0.1 is admitted, 127.0.0.2 must never be visited."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from web_site import Site, serving

from streamvlm.errors import SourceError, SourceStalledError, UsageError
from streamvlm.frame import Picture
from streamvlm.ingest.hls.segment_queue import MAX_MISSING
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[Site]:
    with serving("127.0.0.2", tmp_path) as site:
        yield site
        assert site.asked == []


def admit(url: str) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname != "127.0.0.1":
        raise UsageError(f"{parts.scheme}://{parts.hostname} is not allowed.")
    return ["127.0.0.1"]


def shown(which: Which, url: str, *, fps: float = 1.0) -> list[int]:
    with open_source(url, fps=fps, admit=admit, timeout_s=5) as source:
        return [which(frame.picture) for frame in source]


def hls(folder: Path, *lines: str, ends: bool = True, name: str = "list.m3u8") -> str:
    text = "".join(f"#EXTINF:3,\n{line}\n" for line in lines)
    (folder / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n{text}" + "#EXT-X-ENDLIST\n" * ends)
    return name


@pytest.mark.parametrize("sends_parts", [True, False])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "list.m3u8"])
def test_what_is_admitted_plays_as_ffmpeg_itself_would_play_it(
    name: str, sends_parts: bool, web: Site, clip: Clip, which: Which
) -> None:
    if name == "clip.mp4" and not sends_parts:
        clip(name, muxer={"movflags": "faststart"})  # else its index lies where nobody can go
    else:
        clip(name, muxer={"hls_time": "1", "hls_list_size": "0"} if name == "list.m3u8" else {})
    web.sends_parts = sends_parts
    with open_source(f"http://{web.host}/{name}", admit=admit) as source:
        assert [which(frame.picture) for frame in source] == [0, 10, 20]
        assert not source.is_live
    assert {host for host, _ in web.asked} == {web.host}


def test_the_index_at_the_end_of_a_long_file_is_sought_and_not_waited_for(web: Site, clip: Clip, which: Which) -> None:
    data = clip("clip.mp4").read_bytes()
    place, padding = data.rindex(b"moov") - 4, 4 << 20
    assert place > data.index(b"mdat")
    web.answers["/long.mp4"] = lambda: (
        data[:place] + struct.pack(">I4s", padding, b"free") + bytes(padding - 8) + data[place:]
    )
    assert shown(which, f"http://{web.host}/long.mp4") == [0, 10, 20]
    assert any(int(wanted.removeprefix("bytes=").rstrip("-")) > padding for wanted in web.ranges)


def test_a_playlist_of_parts_of_one_file_is_read_part_by_part(web: Site, clip: Clip, which: Which) -> None:
    n_bytes = clip("clip.ts").stat().st_size
    half = n_bytes // 2 // 188 * 188
    lines = "".join(
        f"#EXTINF:1.5,\n#EXT-X-BYTERANGE:{size}@{start}\nclip.ts\n"
        for start, size in ((0, half), (half, n_bytes - half))
    )
    text = f"#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:2\n{lines}#EXT-X-ENDLIST\n"
    web.answers["/parts.m3u8"] = text.encode
    for web.sends_parts in (True, False):
        assert shown(which, f"http://{web.host}/parts.m3u8", fps=10) == list(range(30))


def test_redirects_are_followed_and_playlists_are_relative_to_where_they_lead(
    web: Site, clip: Clip, tmp_path: Path, which: Which
) -> None:
    (tmp_path / "deep").mkdir()
    hls(tmp_path / "deep", f"/to/http://{web.host}/deep/clip.ts")
    clip("deep/clip.ts")
    assert shown(which, f"http://{web.host}/to/http://{web.host}/deep/list.m3u8") == [0, 10, 20]
    hls(tmp_path / "deep", "clip.ts")
    assert shown(which, f"http://{web.host}/to/http://{web.host}/deep/list.m3u8") == [0, 10, 20]


def test_a_live_playlist_is_read_again_and_again(web: Site, clip: Clip, which: Which) -> None:
    for number in range(4):
        clip(f"{number}.ts", n_frames=10)
    n_asked = 0

    def growing() -> bytes:
        nonlocal n_asked
        n_asked += 1
        lines = "".join(f"#EXT-X-DISCONTINUITY\n#EXTINF:0.1,\n{number}.ts\n" for number in range(min(n_asked, 4)))
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:0\n"
        return (head + lines + "#EXT-X-ENDLIST\n" * (n_asked > 4)).encode()

    web.answers["/live.m3u8"] = growing
    with open_source(f"http://{web.host}/live.m3u8", fps=1000, admit=admit) as source:
        assert source.is_live
        assert [which(frame.picture) for frame in source] == list(range(10)) * 4
    assert n_asked > 4


@pytest.mark.parametrize(
    "target",
    ["http://{forbidden}/clip.ts", "http://169.254.169.254/clip.ts", "file://{file}"],
)
@pytest.mark.parametrize(
    "way", ["redirect", "segment", "second segment", "segment's redirect", "playlist", "key", "map"]
)
def test_what_is_not_admitted_is_refused_in_one_sentence_and_never_visited(
    way: str, target: str, web: Site, forbidden: Site, clip: Clip, tmp_path: Path
) -> None:
    target = target.format(forbidden=forbidden.host, file=clip("clip.ts"))
    match way:
        case "redirect":
            name = f"to/{target}"
        case "segment":
            name = hls(tmp_path, target)
        case "second segment":
            name = hls(tmp_path, "clip.ts", target)
        case "segment's redirect":
            name = hls(tmp_path, f"/to/{target}")
        case "playlist":
            name = "list.m3u8"
            (tmp_path / name).write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target.replace('.ts', '.m3u8')}\n")
        case "key":
            name = hls(tmp_path, f'clip.ts\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:3,\nclip.ts')
        case _:
            name = hls(tmp_path, f'clip.ts\n#EXT-X-MAP:URI="{target}"\n#EXTINF:3,\nclip.ts')
    with pytest.raises(UsageError, match=r"^\S+ is not allowed\.$"):
        list(open_source(f"http://{web.host}/{name}", admit=admit, timeout_s=5))


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {0}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.2\ns=a\nc=IN IP4 127.0.0.2\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_lists_that_ffmpeg_would_open_by_itself_are_no_videos(
    text: str, web: Site, forbidden: Site, clip: Clip, tmp_path: Path
) -> None:
    clip("clip.ts")
    (tmp_path / "list.txt").write_text(text.format("clip.ts"))
    with pytest.raises(SourceError, match="not taken here; give MP4"):
        open_source(f"http://{web.host}/list.txt", admit=admit)
    assert [path for _, path in web.asked] == ["/list.txt"] * len(web.asked)


def test_a_segment_that_is_gone_is_passed_over_and_too_many_end_the_source(
    web: Site, clip: Clip, tmp_path: Path, which: Which
) -> None:
    clip("clip.ts")
    assert shown(which, f"http://{web.host}/{hls(tmp_path, *['gone.ts'] * (MAX_MISSING - 1), 'clip.ts')}") == [
        0,
        10,
        20,
    ]
    name = hls(tmp_path, "clip.ts", *["gone.ts"] * MAX_MISSING)
    with pytest.raises(SourceError, match="404 Not Found"):
        shown(which, f"http://{web.host}/{name}")


def test_what_a_web_server_says_is_passed_on(web: Site) -> None:
    with pytest.raises(SourceError, match="404 Not Found"):
        open_source(f"http://{web.host}/missing.mp4", admit=admit)
    with pytest.raises(SourceError, match="more than 5 times"):
        open_source(f"http://{web.host}/to//to//to//to//to//to//to/", admit=admit)
    with pytest.raises(SourceStalledError, match="cannot be read"):
        open_source("http://127.0.0.1:9/clip.mp4?token=secret", admit=admit)


def test_a_web_server_that_falls_silent_is_given_up_in_time(web: Site) -> None:
    is_over = threading.Event()

    def silent() -> bytes:
        is_over.wait()
        return b""

    web.answers["/clip.ts"] = silent
    with pytest.raises(SourceStalledError, match=r"did not answer for 0\.2 s"):
        open_source(f"http://{web.host}/clip.ts", admit=admit, timeout_s=0.2)
    is_over.set()


def test_each_admitted_address_is_tried_in_turn(web: Site, clip: Clip, which: Which) -> None:
    clip("clip.ts")
    port = web.server_port
    with open_source(
        f"http://somewhere.invalid:{port}/clip.ts", admit=lambda url: ["127.0.0.3", "127.0.0.1"]
    ) as source:
        assert [which(frame.picture) for frame in source] == [0, 10, 20]
    assert {host for host, _ in web.asked} == {f"somewhere.invalid:{port}"}
