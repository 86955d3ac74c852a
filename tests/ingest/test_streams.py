"""Files with several video streams: the best is taken, or the one that is asked for; cover pictures never are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from streamvlm.errors import SourceError
from streamvlm.ingest.source import open_source

LARGE, SMALL, COVER = (128, 96), (64, 48), (640, 480)


def write_streams(path: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """Ten pictures a stream, brighter from stream to stream; what is of a cover's size is one."""
    with av.open(str(path), "w") as out:
        streams: list[Any] = []
        for size in sizes:
            stream: Any = out.add_stream("mjpeg" if size is COVER else "mpeg4", rate=10)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if size is COVER else "yuv420p"
            stream.disposition = Disposition.attached_pic if size is COVER else stream.disposition
            streams.append(stream)
        for _ in range(10):
            for n, stream in enumerate(streams):
                picture = np.full((stream.height, stream.width, 3), 40 + 60 * n, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                if not (stream.disposition & Disposition.attached_pic and stream.frames):
                    out.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def shown(path: Path, stream: int | None = None) -> tuple[tuple[int, int], int]:
    """Size of the pictures, and by their brightness which stream they are of."""
    with open_source(str(path), fps=10, stream=stream) as source:
        pictures = [frame.picture for frame in source]
    assert len(pictures) == 10
    height, width, _ = pictures[0].shape
    return (width, height), round((float(pictures[0].mean()) - 40) / 60)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.ts"])
def test_each_video_stream_can_be_chosen(name: str, tmp_path: Path) -> None:
    path = write_streams(tmp_path / name, [SMALL, LARGE])
    assert shown(path, 0) == (SMALL, 0)
    assert shown(path, 1) == (LARGE, 1)


def test_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mkv", [SMALL, LARGE])
    with pytest.raises(SourceError, match=r"has no video stream 2; choose of 0 \(64x48\), 1 \(128x96\)\.$"):
        open_source(str(path), stream=2)


@pytest.mark.parametrize("sizes", [[COVER, SMALL], [SMALL, COVER]])
def test_a_cover_picture_is_never_taken_however_large_it_is(sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mp4", sizes)
    n_written = sizes.index(SMALL)
    assert shown(path) == shown(path, 0) == (SMALL, n_written)
    with pytest.raises(SourceError, match=r"no video stream 1; choose of 0 \(64x48\)\.$"):
        open_source(str(path), stream=1)  # an MP4's cover comes after its videos
