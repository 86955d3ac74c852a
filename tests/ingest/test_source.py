from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from junk import write_with_junk

from streamvlm.errors import SourceError, UsageError
from streamvlm.frame import Picture
from streamvlm.ingest.container import MAX_BAD_PACKETS
from streamvlm.ingest.source import open_source

Clip = Callable[..., Path]
Which = Callable[[Picture], int]

CONTAINERS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "mkv": {},
    "ts": {},
    "flv": {},
    "h264": {},  # no timestamps at all
    "webm": {"codec": "libvpx"},
    "avi": {"codec": "mpeg4"},
    "gif": {"codec": "gif", "pixel_format": "gray"},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_is_sampled_by_stream_time(kind: str, clip: Clip, which: Which) -> None:
    path = clip(f"clip.{kind}", **CONTAINERS[kind])
    with open_source(str(path), fps=2) as source:
        frames = list(source)
        assert [which(frame.picture) for frame in frames] == [0, 5, 10, 15, 20, 25]
        assert [frame.time_s for frame in frames] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
        assert [frame.index for frame in frames] == list(range(source.n_frames)) == list(range(6))
        assert frames[0].picture.shape == (48, 64, 3)
        assert frames[0].wall_s is None
        assert not source.is_live
        assert source.n_corrupt_packets == 0
        is_stated = kind not in ("h264", "ts")  # of MPEG-TS it would be a guess
        assert source.duration_s == (pytest.approx(3, abs=0.25) if is_stated else None)


def test_a_rate_above_that_of_the_source_gives_each_frame_once(clip: Clip, which: Which) -> None:
    frames = list(open_source(str(clip("clip.mkv", fps=30)), fps=100))
    assert [which(frame.picture) for frame in frames] == list(range(30))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_variable_frame_rate_gives_the_first_frame_of_each_slot(kind: str, clip: Clip, which: Which) -> None:
    path = clip(f"clip.{kind}", times_s=[0, 0.1, 0.15, 0.9, 1.0, 1.05, 3.5, 3.6, 4.0, 7.2])
    frames = list(open_source(str(path)))
    assert [(which(frame.picture), round(frame.time_s, 3)) for frame in frames] == [
        *((0, 0), (4, 1), (6, 3.5), (8, 4), (9, 7.2))
    ]


def test_stream_time_goes_on_over_a_timestamp_wrap(clip: Clip, which: Which) -> None:
    path = clip("clip.ts", muxer={"output_ts_offset": f"{2**33 / 90000 - 2:.3f}"})
    frames = list(open_source(str(path)))
    assert [(which(frame.picture), round(frame.time_s, 3)) for frame in frames] == [(0, 0), (10, 1), (20, 2)]


def test_stream_time_goes_on_over_joined_recordings(clip: Clip, which: Which, tmp_path: Path) -> None:
    (tmp_path / "joined.ts").write_bytes(clip("clip.ts").read_bytes() * 2)
    frames = list(open_source(str(tmp_path / "joined.ts")))
    assert [which(frame.picture) for frame in frames] == [0, 10, 20, 0, 10, 20]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_leap_from_one_recording_to_the_next_is_closed(codec: str, clip: Clip, which: Which, tmp_path: Path) -> None:
    first = clip("first.ts", codec=codec, fps=25)
    later = clip("later.ts", codec=codec, fps=25, muxer={"output_ts_offset": "1800"})
    (tmp_path / "joined.ts").write_bytes(first.read_bytes() + later.read_bytes())
    with open_source(str(tmp_path / "joined.ts"), fps=25) as source:
        assert source.duration_s is None  # what the container states includes the leap
        frames = list(source)
    assert [which(frame.picture) for frame in frames] == [*range(30), *range(30)]
    assert [frame.time_s for frame in frames] == pytest.approx([n / 25 for n in range(60)], abs=1e-3)


@pytest.mark.parametrize("kind", ["ts", "mp4", "mkv"])
def test_the_gaps_of_a_sparse_recording_are_its_own(kind: str, clip: Clip) -> None:
    minutes = [60.0 * n for n in range(5)]
    assert [frame.time_s for frame in open_source(str(clip(f"clip.{kind}", times_s=minutes)))] == minutes


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_pause_that_a_container_states_is_a_pause(kind: str, clip: Clip) -> None:
    times_s = [0, 0.1, 0.2, 0.3, 600, 600.1]
    frames = list(open_source(str(clip(f"clip.{kind}", times_s=times_s)), fps=10))
    assert [frame.time_s for frame in frames] == pytest.approx(times_s)


def test_pictures_one_after_the_other_in_a_file_are_a_video(clip: Clip, which: Which, tmp_path: Path) -> None:
    path = clip("clip.mjpeg", codec="mjpeg", pixel_format="yuvj420p")
    path.rename(tmp_path / "clip.jpg")  # whatever it is called
    assert [which(frame.picture) for frame in open_source(str(tmp_path / "clip.jpg"), fps=25)] == list(range(30))


def test_what_another_process_writes_into_a_pipe_is_live(clip: Clip, which: Which, tmp_path: Path) -> None:
    data = clip("clip.h264").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    with open_source(str(tmp_path / "pipe"), fps=1000) as source:
        assert [which(frame.picture) for frame in source] == list(range(30))
    writer.join()


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_video_comes_upright_as_opencv_shows_it(rotation: int, clip: Clip) -> None:
    path = clip("clip.mp4", rotation=rotation)
    is_read, expected = cv2.VideoCapture(str(path)).read()
    assert is_read
    np.testing.assert_array_equal(next(open_source(str(path))).picture, expected[:, :, ::-1])


def test_odd_sizes_and_other_pixel_formats_become_rgb(clip: Clip, which: Which) -> None:
    path = clip("clip.mp4", size=(63, 47), pixel_format="yuv444p", codec="libx264")
    picture = list(open_source(str(path)))[2].picture
    assert (picture.shape, str(picture.dtype), which(picture)) == ((47, 63, 3), "uint8", 20)
    assert picture.flags.c_contiguous


def test_reading_can_stop_go_on_and_be_closed(clip: Clip, which: Which) -> None:
    source = open_source(str(clip("clip.mp4")), fps=10)
    assert [which(next(source).picture) for _ in range(3)] == [0, 1, 2]
    assert which(next(iter(source)).picture) == 3
    source.close()
    assert list(source) == []


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}", "file://localhost{}"])
def test_file_urls_and_awkward_names_are_paths(form: str, clip: Clip) -> None:
    path = clip("concat: a, 100% b.mp4")
    uri = form.format(path if form == "{}" else str(path).replace("%", "%25").replace(" ", "%20"))
    assert len(list(open_source(uri))) == 3


def test_a_playlist_of_local_segments_plays(clip: Clip, which: Which) -> None:
    path = clip("list.m3u8", muxer={"hls_time": "1", "hls_list_size": "0"})
    source = open_source(str(path))
    assert (source.duration_s, source.is_live) == (3, False)
    assert [which(frame.picture) for frame in source] == [0, 10, 20]


def test_a_folder_is_a_video_in_natural_order(tmp_path: Path, which: Which) -> None:
    grey = np.full((31, 33), 8, np.uint8)
    colour = np.full((31, 33, 3), 24, np.uint8)
    alpha = np.dstack([np.full((31, 33, 3), 32, np.uint8), np.full((31, 33), 200, np.uint8)])
    pictures = {"p1.png": grey, "p2.jpg": 2 * grey, "p3.BMP": colour, "p4.png": alpha, "p10.webp": colour}
    for name, picture in pictures.items():
        assert cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "p5.png").write_bytes(b"no picture")
    (tmp_path / "p6.jpg").write_bytes((tmp_path / "p2.jpg").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("not a picture, and not meant to be one")
    with open_source(str(tmp_path), fps=4) as source:
        frames = list(source)
    assert [which(frame.picture) for frame in frames] == [1, 2, 3, 10, 3]
    assert [frame.time_s for frame in frames] == [0, 0.25, 0.5, 0.75, 1.5]
    assert {frame.picture.shape for frame in frames} == {(31, 33, 3)}
    assert (source.n_corrupt_packets, source.duration_s, source.is_live) == (2, 1.75, False)


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    source = open_source(str(write_with_junk(tmp_path / "clip.mkv", n_junk=MAX_BAD_PACKETS - 1)), fps=10)
    assert len(list(source)) == 20
    assert source.n_corrupt_packets == MAX_BAD_PACKETS - 1


def test_too_many_damaged_packets_in_a_row_end_a_source(tmp_path: Path) -> None:
    source = open_source(str(write_with_junk(tmp_path / "clip.mkv", n_junk=MAX_BAD_PACKETS)), fps=10)
    with pytest.raises(SourceError, match=f"clip.mkv is damaged: {MAX_BAD_PACKETS} packets in a row"):
        list(source)
    assert source.n_frames == 10


@pytest.mark.parametrize("kind", ["mp4", "ts", "mkv"])
def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(kind: str, clip: Clip, tmp_path: Path) -> None:
    muxer = {"movflags": "faststart"} if kind == "mp4" else {}  # else its index would be what is cut off
    path = clip(f"clip.{kind}", codec="mpeg4", size=(320, 240), muxer=muxer)
    (tmp_path / f"cut.{kind}").write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    whole = list(open_source(str(path), fps=10))
    frames = list(open_source(str(tmp_path / f"cut.{kind}"), fps=10))
    if kind == "ts":
        frames.pop()  # half of it may be made up
    assert 5 < len(frames) < 29
    for frame, expected in zip(frames, whole, strict=False):
        assert frame.time_s == expected.time_s
        np.testing.assert_array_equal(frame.picture, expected.picture)


@pytest.mark.parametrize("kind", ["mp4", "ts", "mkv", "avi"])
def test_garbled_bytes_give_frames_in_order_or_a_source_error(kind: str, clip: Clip, tmp_path: Path) -> None:
    whole = clip(f"clip.{kind}", **CONTAINERS[kind]).read_bytes()
    dice = random.Random(kind)
    endings = set()
    for n_garbled in (3, 3, 3, 200):
        data = bytearray(whole)
        for _ in range(n_garbled):
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        (tmp_path / f"bad.{kind}").write_bytes(data)
        try:
            with open_source(str(tmp_path / f"bad.{kind}"), fps=10) as source:
                times_s = [frame.time_s for frame in source]
            assert times_s == sorted(set(times_s))
            endings.add("whole" if len(times_s) == 30 and not source.n_corrupt_packets else "skipped")
        except SourceError:
            endings.add("error")
    assert endings - {"whole"}


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder of things that are no video."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("dear diary\n" * 100)
    for folder in ("bare", "words", "junk"):
        (tmp_path / folder).mkdir()
    (tmp_path / "words" / "notes.txt").write_text("no picture")
    (tmp_path / "junk" / "1.png").write_text("no picture")
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000)
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux([*sound.encode(frame), *sound.encode(None)])
        out.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "missing.mp4 does not exist"),
        ("text.mp4/x", "text.mp4/x does not exist"),
        ("null\0byte", "does not exist"),
        ("empty.mp4", "empty.mp4 is an empty file"),
        ("text.mp4", "text.mp4 is no video that can be read"),
        ("song.m4a", "song.m4a has no video stream"),
        ("bare", "bare holds no pictures"),
        ("words", "words holds no pictures"),
        ("junk", "junk holds no readable picture"),
    ],
)
def test_what_is_no_video_is_named_in_one_sentence(name: str, message: str, shelf: Path) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        list(open_source(f"{shelf}/{name}"))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_source_must_be_named() -> None:
    with pytest.raises(SourceError, match="No source is named"):
        open_source("")


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="There is no camera /dev/video77"):
        open_source("/dev/video77")


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that anyone may list, in a process that is not the superuser."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        user = os.geteuid()
        yield Path(folder)
        os.seteuid(user)


@pytest.mark.parametrize("secret", ["file.mp4", "folder", "folder/in_it.mp4"])
def test_what_may_not_be_read_is_named(secret: str, locked: Path) -> None:
    (locked / "file.mp4").write_bytes(b"video")
    (locked / "folder").mkdir()
    (locked / "folder" / "in_it.mp4").write_bytes(b"video")
    (locked / "file.mp4").chmod(0)
    (locked / "folder").chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)  # the superuser may read anything
    with pytest.raises(SourceError, match=f"{secret} may not be read"):
        open_source(str(locked / secret))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1001])
def test_a_wrong_rate_is_a_usage_error_before_anything_is_opened(fps: float) -> None:
    with pytest.raises(UsageError, match="fps is"):
        open_source("missing.mp4", fps=fps)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_wrong_timeout_is_a_usage_error(timeout_s: float) -> None:
    with pytest.raises(UsageError, match="timeout_s is"):
        open_source("missing.mp4", timeout_s=timeout_s)
