"""A recording that ends early says so, and one that is whole never does."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from web_site import Handler, Site

from streamvlm.errors import SourceError
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]

A_MINUTE_APART = [0.0, 60.0, 120.0, 180.0]
FAST = {"movflags": "faststart"}  # or the index would be what is cut off
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
NO_TAGS = {"fflags": "+bitexact"}
"""Has Matroska state the length of the whole alone, as muxers other than FFmpeg's do."""


def add_sound(path: Path, to: Path, *, sound_s: float, muxer: dict[str, str] | None = None) -> Path:
    """A copy of a clip with silence, which may be longer than it, packets by their time."""
    with av.open(str(path)) as clip, av.open(str(to), "w", options=muxer or {}) as out:
        seen = out.add_stream_from_template(clip.streams.video[0])
        heard: Any = out.add_stream("aac", rate=48_000)
        packets = [packet for packet in clip.demux(video=0) if packet.dts is not None]
        for packet in packets:
            packet.stream = seen
        for n in range(round(sound_s * 48_000 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, n * 1024, Fraction(1, 48_000)
            packets += heard.encode(frame)
        for packet in sorted(packets, key=lambda one: float((one.dts or 0) * one.time_base)):
            out.mux(packet)
    return to


def warning(path: Path, fps: float = 10.0) -> str | None:
    with open_source(str(path), fps=fps) as source:
        assert source.warning is None, "nothing is known before the end"
        assert list(source)
        return source.warning


def cut(path: Path, share: float = 0.6) -> Path:
    """What a download has of a file when it is broken off."""
    there = path.with_stem("cut")
    there.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    return there


WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("clip.mp4", {}),
    "mp4 of fragments": ("clip.mp4", {"muxer": FRAGMENTS}),
    "mp4 with a picture a minute": ("clip.mp4", {"times_s": A_MINUTE_APART}),
    "mp4 with a long last picture": ("clip.mp4", {"times_s": [0, 0.1, 0.2, 9.0]}),
    "mp4 that begins late": ("clip.mp4", {"muxer": {"output_ts_offset": "3"}}),
    "mov": ("clip.mov", {}),
    "mkv": ("clip.mkv", {}),
    "mkv with a picture a minute": ("clip.mkv", {"times_s": A_MINUTE_APART}),
    "mkv with a long last picture": ("clip.mkv", {"times_s": [0, 0.1, 0.2, 9.0]}),
    "mkv that begins late": ("clip.mkv", {"muxer": {"output_ts_offset": "3"}}),
    "mkv without tags": ("clip.mkv", {"muxer": NO_TAGS}),
    "mkv without length": ("clip.mkv", {"muxer": {"live": "1"}}),
    "webm": ("clip.webm", {"codec": "libvpx"}),
    "avi": ("clip.avi", {"codec": "mpeg4"}),
    "flv": ("clip.flv", {"codec": "flv1"}),
    "flv that begins late": ("clip.flv", {"codec": "flv1", "muxer": {"output_ts_offset": "3"}}),
    "ts": ("clip.ts", {}),
    "mpg": ("clip.mpg", {"codec": "mpeg2video", "fps": 25}),
    "wmv": ("clip.asf", {"codec": "wmv2"}),
    "gif": ("clip.gif", {"codec": "gif", "pixel_format": "gray"}),
    "raw": ("clip.h264", {}),
    "one picture": ("clip.mp4", {"n_frames": 1}),
    "hls": ("list.m3u8", {"muxer": {"hls_time": "1", "hls_list_size": "0"}}),
}


@pytest.mark.parametrize("fps", [10, 0.1])
@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_whole_is_never_warned_of(kind: str, fps: float, clip: Clip) -> None:
    name, how = WHOLE[kind]
    assert warning(clip(name, **how), fps) is None


@pytest.mark.parametrize("sound_s", [1, 9])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.flv", "bare.mkv"])
def test_sound_that_is_longer_or_shorter_is_no_reason_to_warn(
    name: str, sound_s: float, clip: Clip, tmp_path: Path
) -> None:
    source = clip("video.flv", codec="flv1") if name.endswith("flv") else clip("video.mkv", codec="mpeg4")
    muxer = NO_TAGS if name == "bare.mkv" else {}
    assert warning(add_sound(source, tmp_path / name, sound_s=sound_s, muxer=muxer)) is None


EARLY: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("clip.mp4", {"muxer": FAST}),
    "mov": ("clip.mov", {"muxer": FAST}),
    "mkv": ("clip.mkv", {}),
    "mkv without tags": ("clip.mkv", {"muxer": NO_TAGS}),
    "webm": ("clip.webm", {"codec": "libvpx", "muxer": {"cluster_time_limit": "500"}}),
    "avi": ("clip.avi", {"codec": "mpeg4"}),
    "flv": ("clip.flv", {"codec": "flv1"}),
}


@pytest.mark.parametrize("fps", [10, 0.1])
@pytest.mark.parametrize("kind", EARLY)
def test_a_download_that_was_cut_off_says_where(kind: str, fps: float, clip: Clip) -> None:
    name, how = EARLY[kind]
    path = cut(clip(name, n_frames=120, size=(320, 240), **how))
    told = warning(path, fps)
    assert told is not None
    assert " of 0:12; the rest is missing" in told
    with open_source(str(path), fps=10) as source:
        ended_s = list(source)[-1].time_s + 0.1
    assert f"{path} ended at 0:{ended_s:02.0f} of" in told


@pytest.mark.parametrize("sound_s", [12, 20])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "bare.mkv"])
def test_so_does_one_with_sound(name: str, sound_s: float, clip: Clip, tmp_path: Path) -> None:
    source = clip("video.mkv", n_frames=120, codec="mpeg4", size=(320, 240))
    muxer = {"clip.mp4": FAST, "clip.mkv": {}, "bare.mkv": NO_TAGS}[name]
    told = warning(cut(add_sound(source, tmp_path / name, sound_s=sound_s, muxer=muxer), 0.4))
    assert told is not None
    assert "the rest is missing" in told


def test_a_file_whose_second_half_is_still_empty_ended_early(clip: Clip) -> None:
    path = clip("clip.mp4", n_frames=120, codec="mpeg4", muxer=FAST)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10].ljust(len(data), b"\0"))
    told = warning(path)
    assert told is not None
    assert "of 0:12" in told


def test_a_playlist_whose_last_segments_are_gone_ended_early(clip: Clip, tmp_path: Path) -> None:
    path = clip("list.m3u8", n_frames=60, muxer={"hls_time": "1", "hls_list_size": "0"})
    for n in (4, 5):
        (tmp_path / f"list{n}.ts").unlink()
    assert warning(path) == f"{path} ended at 0:04 of 0:06; the rest is missing, as of a download that was cut off."


def transport_stream(clip: Clip, n_left_over: int) -> Path:
    """Six tenths of a recording, in whole packets, and some bytes of another one."""
    path = clip("clip.ts", n_frames=120, size=(320, 240), codec="mpeg2video", fps=25)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10 // 188 * 188 + n_left_over])
    return path


@pytest.mark.parametrize("before", [b"", b"junk"], ids=["", "behind junk"])
def test_a_transport_stream_that_breaks_off_within_a_packet_says_where(before: bytes, clip: Clip) -> None:
    path = transport_stream(clip, 100)
    path.write_bytes(before + path.read_bytes())
    with open_source(str(path), fps=25) as source:
        ended_s = [frame.time_s for frame in source][-1] + 0.04
        told = f"{path} ended at 0:{ended_s:02.0f}; it breaks off within a packet, as of a download that was cut off."
        assert source.warning == told


def test_one_that_ends_with_a_packet_is_not_warned_of(clip: Clip) -> None:
    path = transport_stream(clip, 0)
    assert warning(path) is None
    path.write_bytes(b"junk" + path.read_bytes())
    assert warning(path) is None


def test_nor_is_one_of_longer_packets(clip: Clip) -> None:
    path = clip("clip.m2ts", n_frames=120, size=(320, 240), muxer={"mpegts_m2ts_mode": "1"})
    assert path.stat().st_size % 188
    assert warning(path) is None


@pytest.mark.parametrize("is_length_told", [True, False])
@pytest.mark.parametrize("sends_parts", [True, False])
def test_on_the_web_it_is_warned_of_where_a_length_was_told(
    sends_parts: bool, is_length_told: bool, clip: Clip, web: Site
) -> None:
    data, web.sends_parts = transport_stream(clip, 100).read_bytes(), sends_parts

    def untold(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK")
        handler.wfile.write(data)

    if not is_length_told:
        web.scripts["/clip.ts"] = untold
    with open_source(f"http://{web.host}/clip.ts") as source:
        assert len(list(source)) > 1
        assert ("within a packet" in (source.warning or "")) == is_length_told


def test_who_stops_reading_is_not_warned(clip: Clip) -> None:
    with open_source(str(cut(clip("clip.mkv", n_frames=120))), fps=10) as source:
        next(source)
        assert source.warning is None


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
def test_a_file_without_its_index_is_named_as_that(name: str, clip: Clip) -> None:
    path = cut(clip(name, size=(320, 240)))
    with pytest.raises(
        SourceError, match=r"lacks its index \(moov\), as of a download or a recording that was cut off"
    ):
        open_source(str(path))
