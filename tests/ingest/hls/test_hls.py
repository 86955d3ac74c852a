"""HLS on the playlist's own clock: recordings and live ones, from disk and over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from web_site import Site

from streamvlm import readable
from streamvlm.errors import SourceError, SourceLostError, SourceStalledError
from streamvlm.frame import Picture
from streamvlm.ingest.hls.playlist import MediaPlaylist, parse
from streamvlm.ingest.hls.reader import MAX_PLAYLIST_BYTES
from streamvlm.ingest.hls.segment_queue import MAX_MISSING, PlaylistPlace, SegmentQueue
from streamvlm.ingest.reconnecting import ReconnectingSource
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]

HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n"
END = "#EXT-X-ENDLIST\n"


@pytest.fixture
def segments(clip: Clip) -> list[Path]:
    """Three seconds in a TS each, of pictures 0 to 9, whose times begin at 0, at 3000 s and at 77 s."""
    return [
        clip(name, n_frames=10, muxer={"output_ts_offset": str(start), "muxdelay": "0"})
        for name, start in (("a.ts", 0), ("b.ts", 3000), ("c.ts", 77))
    ]


def playlist(folder: Path, *lines: str, head: str = HEAD, end: str = END, name: str = "list.m3u8") -> Path:
    """Each line is a segment of a second, with the tags before it."""
    text = "".join(
        f"{tags}{newline}#EXTINF:1,\n{line}\n" for one in lines for tags, newline, line in [one.rpartition("\n")]
    )
    (folder / name).write_text(head + text + end)
    return folder / name


def watch(uri: str, which: Which, *, fps: float = 10, **how: Any) -> list[tuple[float, int]]:
    with open_source(uri, fps=fps, **how) as source:
        return [(round(frame.time_s, 3), which(frame.picture)) for frame in source]


def seconds(*starts_s: float) -> list[tuple[float, int]]:
    """Seconds of pictures 0 to 9, as they begin."""
    return [(round(start_s + n / 10, 3), n) for start_s in starts_s for n in range(10)]


# --- recordings ---


@pytest.mark.parametrize("tag", ["#EXT-X-DISCONTINUITY\n", ""], ids=["told", "not told"])
def test_leaps_between_segments_are_closed_on_the_playlists_clock(
    tag: str, segments: list[Path], tmp_path: Path, web: Site, which: Which
) -> None:
    path = playlist(tmp_path, "a.ts", f"{tag}b.ts", f"{tag}c.ts")
    for uri in (str(path), f"http://{web.host}/list.m3u8"):
        with open_source(uri, fps=10) as source:
            assert (source.duration_s, source.is_live) == (3, False)
            assert [(round(frame.time_s, 3), which(frame.picture)) for frame in source] == seconds(0, 1, 2)


@pytest.mark.parametrize("form", ["{}", "{url}/{}", "/{}", "{}?token=a/../b", "./{}#t", "../x/{}"])
def test_segments_are_found_however_they_are_named(
    form: str, segments: list[Path], tmp_path: Path, web: Site, which: Which
) -> None:
    (tmp_path / "x").mkdir()
    for path in segments:
        path.rename(tmp_path / ("x" if form != "/{}" else ".") / path.name)
    lines = [form.format(path.name, url=f"http://{web.host}/x") for path in segments]
    playlist(tmp_path / "x", *(f"#EXT-X-DISCONTINUITY\n{line}" for line in lines))
    assert watch(f"http://{web.host}/x/list.m3u8", which) == seconds(0, 1, 2)


@pytest.mark.parametrize("name", ["my clip.ts", "my%20clip.ts", "100%.ts", "a:b.ts", "ä.ts"])
def test_segments_on_disk_may_have_awkward_names(name: str, segments: list[Path], tmp_path: Path, which: Which) -> None:
    segments[0].rename(tmp_path / ("my clip.ts" if "%20" in name else name))
    assert watch(str(playlist(tmp_path, name)), which) == seconds(0)


def test_size_and_codec_may_change_at_a_discontinuity(clip: Clip, tmp_path: Path, which: Which) -> None:
    clip("a.ts", n_frames=10)
    clip("b.ts", n_frames=10, size=(128, 96), codec="mpeg2video", fps=25)
    with open_source(str(playlist(tmp_path, "a.ts", "#EXT-X-DISCONTINUITY\nb.ts")), fps=100) as source:
        frames = list(source)
    assert [frame.picture.shape[:2] for frame in frames] == [(48, 64)] * 10 + [(96, 128)] * 10
    assert frames[10].time_s == 1
    assert [which(frame.picture) for frame in frames] == [*range(10), *range(10)]


def fragmented(clip: Clip, name: str, **how: Any) -> tuple[int, int]:
    """Writes a second of fragmented MP4; returns how long its initialization section is, and all of it."""
    data = clip(name, n_frames=10, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}, **how).read_bytes()
    return data.index(b"moof") - 4, len(data)


def test_fragmented_mp4_has_an_initialization_section_a_run(
    clip: Clip, tmp_path: Path, web: Site, which: Which
) -> None:
    runs = [("a.mp4", (64, 48)), ("b.mp4", (128, 96)), ("c.mp4", (64, 48))]
    lines = []
    for name, size in runs:
        head, whole = fragmented(clip, name, size=size)
        lines.append(
            f'#EXT-X-MAP:URI="{name}",BYTERANGE="{head}@0"\n#EXT-X-BYTERANGE:{whole - head}@{head}\n{name}'
        )  # another map is a cut, with a tag or without
    path = playlist(tmp_path, lines[0], f"#EXT-X-DISCONTINUITY\n{lines[1]}", lines[2])
    for uri in (str(path), f"http://{web.host}/list.m3u8"):
        for web.sends_parts in (True, False):
            assert watch(uri, which) == seconds(0, 1, 2)


def test_ranges_go_on_where_the_one_before_ends(segments: list[Path], tmp_path: Path, which: Which) -> None:
    data = [path.read_bytes() for path in segments]
    (tmp_path / "all.ts").write_bytes(b"".join(data))
    lines = [
        f"#EXT-X-DISCONTINUITY\n#EXT-X-BYTERANGE:{len(one)}{'' if n else '@0'}\nall.ts" for n, one in enumerate(data)
    ]
    assert watch(str(playlist(tmp_path, *lines)), which) == seconds(0, 1, 2)


def test_a_gap_and_a_segment_that_is_gone_take_their_time(
    segments: list[Path], tmp_path: Path, web: Site, which: Which
) -> None:
    path = playlist(
        tmp_path, "#EXT-X-GAP\nnever.ts", "a.ts", "gone.ts", "b.ts", "#EXT-X-DISCONTINUITY\ngone.ts", "c.ts"
    )
    for uri in (str(path), f"http://{web.host}/list.m3u8"):
        with open_source(uri, fps=10) as source:
            assert [(round(frame.time_s, 3), which(frame.picture)) for frame in source] == seconds(1, 3, 5)
            assert source.duration_s == 6
            assert source.n_corrupt_packets == 2


def test_too_many_segments_that_are_gone_end_the_source(segments: list[Path], tmp_path: Path, which: Which) -> None:
    gone = ["gone.ts"] * MAX_MISSING
    assert watch(str(playlist(tmp_path, *gone[1:], "a.ts")), which)
    with pytest.raises(SourceError, match=r"names .*gone\.ts, which cannot be read"):
        watch(str(playlist(tmp_path, "a.ts", *gone)), which)
    with pytest.raises(SourceError, match=r"gone\.ts, which cannot be read"):
        open_source(str(playlist(tmp_path, "gone.ts")))


def test_lengths_may_be_stated_roughly(clip: Clip, tmp_path: Path, which: Which) -> None:
    clip("list.m3u8", n_frames=200, fps=10, muxer={"hls_time": "1", "hls_list_size": "0"})
    text = (tmp_path / "list.m3u8").read_text()
    (tmp_path / "list.m3u8").write_text(text.replace("#EXTINF:1.000000,", "#EXTINF:1.05,"))
    times_s = [time_s for time_s, _ in watch(str(tmp_path / "list.m3u8"), which)]
    assert len(times_s) == 200
    assert times_s == sorted(set(times_s))
    assert abs(times_s[-1] - 20.9) < 1.1


def test_of_several_the_best_picture_is_watched(clip: Clip, tmp_path: Path, web: Site) -> None:
    for height in (48, 96):
        clip(f"{height}.ts", n_frames=10, size=(64, height))
        playlist(tmp_path, f"{height}.ts", name=f"{height}.m3u8")
    (tmp_path / "master.m3u8").write_text(
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="English",URI="gone.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="English",URI="gone.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=9000000,CODECS="mp4a.40.2"\nsound.m3u8\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=100,RESOLUTION=64x48,CODECS="avc1.42c00a,mp4a.40.2",AUDIO="a"\n48.m3u8\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=200,RESOLUTION=64x96\n96.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=300,RESOLUTION=640x480\ngone.m3u8\n"
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="gone.m3u8"\n'
    )
    for uri in (str(tmp_path / "master.m3u8"), f"http://{web.host}/master.m3u8"):
        with open_source(uri) as source:
            assert {frame.picture.shape[:2] for frame in source} == {(96, 64)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#EXTM3U\n", "names no segments"),
        (HEAD + "#EXTINF:x,\na.ts\n", "is a playlist that cannot be read"),
        (HEAD + "#EXTINF:nan,\na.ts\n", "is a playlist that cannot be read"),
        (HEAD + "#EXTINF:-1,channel\na.ts\n", "is a playlist that cannot be read"),
        (HEAD + "#EXT-X-BYTERANGE:-5@-7\n#EXTINF:1,\na.ts\n", "is a playlist that cannot be read"),
        (HEAD + '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"\n#EXTINF:1,\na.ts\n', "encrypted by SAMPLE-AES"),
        (HEAD + '#EXT-X-KEY:METHOD=AES-128,KEYFORMAT="com.apple",URI="k"\n#EXTINF:1,\na.ts\n', "format com.apple"),
        (HEAD + "#EXT-X-KEY\n#EXTINF:1,\na.ts\n", "is a playlist that cannot be read"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlist.m3u8\n", "names a playlist of playlists"),
    ],
)
def test_what_is_wrong_with_a_playlist_is_told_in_a_sentence(
    text: str, message: str, segments: list[Path], tmp_path: Path, web: Site
) -> None:
    (tmp_path / "list.m3u8").write_text(text + END)
    for uri in (str(tmp_path / "list.m3u8"), f"http://{web.host}/list.m3u8"):
        with pytest.raises(SourceError, match=message) as caught:
            list(open_source(uri))
        assert str(caught.value).endswith(".")


def test_a_playlist_is_bounded(tmp_path: Path, web: Site) -> None:
    (tmp_path / "list.m3u8").write_bytes(HEAD.encode() + b"#" * MAX_PLAYLIST_BYTES)
    for uri in (str(tmp_path / "list.m3u8"), f"http://{web.host}/list.m3u8"):
        with pytest.raises(SourceError, match=f"more than {readable.size(MAX_PLAYLIST_BYTES)}"):
            open_source(uri)


def test_an_advertisement_of_sound_alone_takes_its_time(segments: list[Path], tmp_path: Path, which: Which) -> None:
    with av.open(str(tmp_path / "sound.ts"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    tag = "#EXT-X-DISCONTINUITY\n"
    assert watch(str(playlist(tmp_path, "a.ts", f"{tag}sound.ts", f"{tag}b.ts")), which) == seconds(0, 2)
    with pytest.raises(SourceError, match="has no video stream"):
        open_source(str(playlist(tmp_path, "sound.ts")))


def test_what_else_people_write_into_playlists_does_no_harm(segments: list[Path], tmp_path: Path, which: Which) -> None:
    tags = (
        "#EXT-X-TARGETDURATION:1.5\n#EXT-X-DISCONTINUITY-SEQUENCE:x\n#EXT-X-PROGRAM-DATE-TIME:yesterday\n"
        "#EXT-X-DATERANGE:oops\n#EXT-X-CUE-OUT:DURATION=x\n#EXT-X-PART:x\n#EXT-X-BITRATE:much\n# a remark\n\n"
    )
    path = playlist(tmp_path, "a.ts", head="\ufeff#EXTM3U\r\n" + tags)
    assert watch(str(path), which) == seconds(0)


# --- encryption ---


def encrypt(path: Path, key: bytes, iv: bytes) -> None:
    padder, encryptor = PKCS7(128).padder(), Cipher(AES(key), CBC(iv)).encryptor()
    data = padder.update(path.read_bytes()) + padder.finalize()
    path.write_bytes(encryptor.update(data) + encryptor.finalize())


def test_aes_128_is_decrypted(segments: list[Path], tmp_path: Path, web: Site, which: Which) -> None:
    first, second, iv = b"first key 16 byt", b"other key 16 byt", bytes(range(16))
    (tmp_path / "1.key").write_bytes(first)
    (tmp_path / "2.key").write_bytes(second)
    encrypt(segments[0], first, (7).to_bytes(16, "big"))  # its number
    encrypt(segments[1], second, iv)
    path = playlist(
        tmp_path,
        '#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-KEY:METHOD=AES-128,URI="1.key"\na.ts',
        f'#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=AES-128,URI="2.key",IV=0x{iv.hex()}\nb.ts',
        "#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=NONE\nc.ts",
    )
    for uri in (str(path), f"http://{web.host}/list.m3u8"):
        assert watch(uri, which) == seconds(0, 1, 2)


@pytest.mark.parametrize("is_head_encrypted", [True, False])
def test_an_initialization_section_is_encrypted_by_the_key_before_it(
    is_head_encrypted: bool, clip: Clip, tmp_path: Path, which: Which
) -> None:
    head, _ = fragmented(clip, "a.mp4")
    data, key, iv = (tmp_path / "a.mp4").read_bytes(), bytes(16), bytes(16)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "head.mp4").write_bytes(data[:head])
    (tmp_path / "rest.m4s").write_bytes(data[head:])
    encrypt(tmp_path / "rest.m4s", key, iv)
    tags = [f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{iv.hex()}', '#EXT-X-MAP:URI="head.mp4"']
    if is_head_encrypted:
        encrypt(tmp_path / "head.mp4", key, iv)
    else:
        tags.reverse()
    assert watch(str(playlist(tmp_path, "\n".join((*tags, "rest.m4s")))), which) == seconds(0)


@pytest.mark.parametrize("n_bytes", [15, 17])
def test_a_key_of_another_length_is_told(n_bytes: int, segments: list[Path], tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(n_bytes))
    with pytest.raises(SourceError, match="16"):
        open_source(str(playlist(tmp_path, '#EXT-X-KEY:METHOD=AES-128,URI="key"\na.ts')))


# --- live ---


class Live:
    """A playlist that is another one each time that it is asked for; the last one stays."""

    def __init__(self, web: Site, *texts: str, path: str = "/live.m3u8") -> None:
        self._texts, self.n_asked = texts, 0
        self.url = f"http://{web.host}{path}"
        web.answers[path] = self._next

    def _next(self) -> bytes:
        text = self._texts[min(self.n_asked, len(self._texts) - 1)]
        self.n_asked += 1
        return text.encode()


def window(first: int, *lines: str, tag: str = "#EXT-X-DISCONTINUITY\n", end: str = "") -> str:
    text = "".join(f"{tag}#EXTINF:1,\n{line}\n" for line in lines)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:{first}\n{text}{end}"


def test_a_live_playlist_is_taken_up_three_from_its_end_and_read_until_it_ends(
    segments: list[Path], web: Site, which: Which
) -> None:
    live = Live(
        web,
        window(5, "gone.ts", "gone.ts", "a.ts", "b.ts", "c.ts"),
        window(5, "gone.ts", "gone.ts", "a.ts", "b.ts", "c.ts"),
        window(8, "b.ts", "c.ts", "a.ts"),
        window(9, "c.ts", "a.ts", "b.ts", end=END),
    )
    with open_source(live.url, fps=10) as source:
        assert source.is_live
        assert source.duration_s is None
        assert [(round(f.time_s, 3), which(f.picture)) for f in source] == seconds(0, 1, 2, 3, 4)
        assert not source.is_live
        assert source.n_corrupt_packets == 0


def test_segments_that_went_before_they_were_seen_are_counted_and_take_their_time(
    segments: list[Path], web: Site, which: Which
) -> None:
    head = "#EXT-X-TARGETDURATION:0"
    live = Live(
        web,
        window(0, "a.ts"),
        window(4, "b.ts", end=END).replace(head, "#EXT-X-TARGETDURATION:1"),
    )
    with open_source(live.url, fps=10) as source:
        assert [(round(f.time_s, 3), which(f.picture)) for f in source] == seconds(0, 4)
        assert source.n_corrupt_packets == 3


def test_a_server_that_begins_anew_is_followed_and_a_cache_that_is_behind_is_not(
    segments: list[Path], web: Site, which: Which
) -> None:
    live = Live(
        web,
        window(8, "a.ts", "b.ts"),
        window(7, "c.ts", "a.ts"),  # a cache
        window(0, "c.ts"),
        window(0, "c.ts", "a.ts", end=END),
    )
    assert watch(live.url, which) == seconds(0, 1, 2, 3)


def test_a_live_playlist_that_is_away_for_a_moment_is_waited_for(segments: list[Path], web: Site, which: Which) -> None:
    live = Live(web, window(0, "a.ts"), "busy", "", window(0, "a.ts", "b.ts", end=END))
    assert watch(live.url, which) == seconds(0, 1)
    assert live.n_asked == 4


def test_a_live_playlist_that_names_nothing_new_is_a_stalled_source(segments: list[Path], web: Site) -> None:
    live = Live(web, window(0, "a.ts"))
    with (
        open_source(live.url, fps=10, timeout_s=0.3) as source,
        pytest.raises(SourceStalledError, match="nothing new"),
    ):
        list(source)
    assert source.n_frames == 10


def dated(*lines: tuple[str, str], end: str = "") -> str:
    """Like `window`, each line with the time of day at which its segment begins."""
    text = "".join(
        f"#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-26T{at}Z\n#EXTINF:1,\n{line}\n" for at, line in lines
    )
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:0\n{text}{end}"


def test_a_pause_of_a_live_source_stays_a_pause_where_wall_times_tell_of_it(
    segments: list[Path], tmp_path: Path, web: Site, which: Which
) -> None:
    lines = [("10:00:00.000", "a.ts"), ("10:01:00.000", "b.ts"), ("10:01:01.000", "c.ts")]
    live = Live(web, dated(*lines), dated(*lines, end=END))
    assert watch(live.url, which) == seconds(0, 60, 61)
    (tmp_path / "list.m3u8").write_text(dated(*lines, end=END))  # a recording was cut there
    assert watch(str(tmp_path / "list.m3u8"), which) == seconds(0, 1, 2)


# --- live, over more than one connection ---


class Quiet:
    """A live playlist that stays as it is until its watcher has noticed; then it is another one, or is not there."""

    def __init__(self, web: Site, before: str, after: str | None) -> None:
        self._web, self._after = web, after
        self.told: list[str] = []
        web.answers["/live.m3u8"] = before.encode
        self._opens = partial(open_source, f"http://{web.host}/live.m3u8", fps=10, timeout_s=0.3)

    def watch(self, which: Which, *, reconnect_s: float = 5.0) -> list[tuple[float, int]]:
        """Returns the time and number of each picture that is watched, up to the end or the loss."""
        seen = []
        with closing(ReconnectingSource(self._opens, reconnect_s=reconnect_s, tell=self._note)) as source:
            try:
                for frame in source:
                    seen.append((round(frame.time_s, 3), which(frame.picture)))
            except SourceLostError as lost:
                self.told.append(str(lost))
        return seen

    def fetched(self, name: str) -> int:
        return [path for _, path in self._web.asked].count(f"/{name}")

    def _note(self, told: str) -> None:
        self.told.append(told)
        if self._after is None:
            self._web.answers.pop("/live.m3u8", None)
        else:
            self._web.answers["/live.m3u8"] = self._after.encode


def test_a_live_playlist_that_stops_growing_is_watched_once_and_given_up(
    segments: list[Path], web: Site, which: Which
) -> None:
    playlist = window(0, "gone.ts", "a.ts", "b.ts", "c.ts")
    quiet = Quiet(web, playlist, playlist)
    assert quiet.watch(which, reconnect_s=0.6) == seconds(0, 1, 2)
    noticed, lost = quiet.told
    assert "has named nothing new" in noticed
    assert "Nothing has come from" in lost
    assert " since 0:03 (" in lost
    assert [quiet.fetched(name) for name in ("a.ts", "b.ts", "c.ts")] == [1, 1, 1]


@pytest.mark.parametrize("end", ["", END], ids=["and goes quiet again", "and ends"])
def test_one_that_grows_again_is_watched_on_after_what_was_shown(
    end: str, segments: list[Path], web: Site, which: Which
) -> None:
    grown = window(8, "b.ts", "c.ts", "a.ts", "b.ts", "c.ts", tag="", end=end)
    quiet = Quiet(web, window(7, "a.ts", "b.ts"), grown)
    assert quiet.watch(which, reconnect_s=5.0 if end else 1.2) == seconds(0, 1, 2, 3, 4, 5)
    assert sum(told.endswith("is back.") for told in quiet.told) == 1
    assert ("Nothing has come from" in quiet.told[-1]) == (not end)


def test_the_silence_counts_where_wall_times_tell_of_it(segments: list[Path], web: Site, which: Which) -> None:
    lines = [("10:00:00.000", "a.ts"), ("10:01:00.000", "b.ts")]
    assert Quiet(web, dated(lines[0]), dated(*lines, end=END)).watch(which) == seconds(0, 60)


def test_one_that_only_ends_is_at_its_end_and_not_back(segments: list[Path], web: Site, which: Which) -> None:
    quiet = Quiet(web, window(7, "a.ts", "b.ts"), window(7, "a.ts", "b.ts", end=END))
    assert quiet.watch(which) == seconds(0, 1)
    assert len(quiet.told) == 1


@pytest.mark.parametrize(
    "restarted",
    [window(0, "c.ts", "c.ts", "b.ts", "a.ts", end=END), window(11, "c.ts", "c.ts", "b.ts", "a.ts", end=END)],
    ids=["numbers begin anew", "a discontinuity"],
)
def test_a_camera_that_was_restarted_is_joined_at_its_live_edge(
    restarted: str, segments: list[Path], web: Site, which: Which
) -> None:
    quiet = Quiet(web, window(9, "a.ts", "b.ts"), restarted)
    seen = quiet.watch(which)
    assert seen == seconds(0, 1, 2, 3, 4)
    assert [quiet.fetched(name) for name in ("a.ts", "b.ts", "c.ts")] == [2, 2, 1]
    assert sum(told.endswith("is back.") for told in quiet.told) == 1


def test_one_that_is_not_there_any_more_is_tried_again_and_given_up(
    segments: list[Path], web: Site, which: Which
) -> None:
    def once() -> bytes:
        del web.answers["/live.m3u8"]
        return window(0, "a.ts", "b.ts").encode()

    quiet = Quiet(web, "", None)
    web.answers["/live.m3u8"] = once
    assert quiet.watch(which, reconnect_s=0.6) == seconds(0, 1)
    noticed, lost = quiet.told
    assert "cannot be opened (404 Not Found)" in noticed
    assert "Trying again for 1 s." in noticed
    assert "Nothing has come from" in lost


def test_segments_that_cannot_be_had_are_tried_again_in_a_live_playlist(
    segments: list[Path], web: Site, which: Which
) -> None:
    gone = ["gone.ts"] * MAX_MISSING
    live = Live(web, window(0, "a.ts"), window(0, "a.ts", *gone))
    with open_source(live.url, fps=10, timeout_s=0.3) as source, pytest.raises(SourceStalledError, match="404"):
        list(source)
    assert source.place is not None
    assert source.place.last.segment.number == 0, "those that nobody saw may be there later"


# --- pauses of a live source ---


def spans(*batches: tuple[float, str], after: PlaylistPlace | None = None) -> tuple[list[float], PlaylistPlace | None]:
    """When segments begin that a live playlist names batch by batch, each at its time; and where that ends."""
    coming, clock_s = list(batches), [0.0]

    def load() -> MediaPlaylist:
        clock_s[0], text = coming.pop(0)
        playlist = parse(text.encode(), lambda line: line, name="live")
        assert isinstance(playlist, MediaPlaylist)
        return playlist

    queue = SegmentQueue(load(), load, name="live", timeout_s=60, after=after, now=lambda: clock_s[0])
    starts_s = []
    while (timed := queue.peek()) is not None:
        queue.take()
        queue.got()
        starts_s.append(timed.span.start_s)
        if not coming and not queue._waiting:
            break
    return starts_s, queue.place


def numbered(first: int, stop: int, *, wall_s: dict[int, float] | None = None, end: str = "") -> str:
    """A playlist of segments of two seconds, by their numbers; some of them with a wall time."""
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:0.1\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
    for n in range(first, stop):
        if wall_s and n in wall_s:
            text += f"#EXT-X-PROGRAM-DATE-TIME:{datetime.fromtimestamp(wall_s[n], UTC).isoformat()}\n"
        text += f"#EXTINF:2,\n{n}.ts\n"
    return text + end


def test_a_playlist_that_names_a_segment_far_too_late_had_a_pause() -> None:
    batches = (0, numbered(0, 2)), (2, numbered(0, 3)), (24, numbered(0, 4)), (26, numbered(0, 5, end=END))
    assert spans(*batches)[0] == [0, 2, 4, 26, 28]


def test_one_that_makes_up_for_lost_time_had_none() -> None:
    assert spans((0, numbered(0, 2)), (8, numbered(0, 6)), (9, numbered(0, 7, end=END)))[0] == [0, 2, 4, 6, 8, 10, 12]


def test_a_little_late_is_no_pause_however_often() -> None:
    late = [(2.0 * n + (1.5 if n % 2 else 0), numbered(0, 2 + n)) for n in range(1, 8)]
    assert spans((0, numbered(0, 2)), *late)[0] == [2.0 * n for n in range(9)]


@pytest.mark.parametrize(("stated_s", "start_s"), [(1004, 4), (1010.5, 10.5), (5, 26)])
def test_wall_times_say_how_long_a_pause_was_where_they_are_sane(stated_s: float, start_s: float) -> None:
    wall_s = {0: 1000.0, 2: stated_s}
    assert spans((0, numbered(0, 2, wall_s=wall_s)), (24, numbered(0, 3, wall_s=wall_s, end=END)))[0] == [0, 2, start_s]


def test_no_pause_counts_twice() -> None:
    begun, grown, gone = numbered(0, 2, wall_s={0: 1000}), numbered(1, 3), numbered(4, 5, wall_s={4: 1030}, end=END)
    assert spans((0, begun), (24, grown), (28, gone))[0] == [0, 2, 26, 30]


@pytest.mark.parametrize("first", [0, 1, 3], ids=["grown", "moved on", "segments gone"])
def test_a_pause_counts_over_connections_too(first: int) -> None:
    _, place = spans((0, numbered(0, 2)))
    starts_s, place = spans((30, numbered(first, max(3, first + 1))), after=place)
    assert starts_s == [32]
    assert spans((64, numbered(0, 2, end=END)), after=place)[0] == [64, 66], "a camera that was restarted"
