"""Videos from strangers: read as one video of the usual containers, whatever they say of other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamvlm.errors import SourceError
from streamvlm.frame import Picture
from streamvlm.ingest.source import open_source, open_upload

Clip = Callable[..., Path]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts", "flv", "webm", "avi"])
def test_an_upload_is_sampled_as_any_video(kind: str, clip: Clip, which: Callable[[Picture], int]) -> None:
    how = {"webm": {"codec": "libvpx"}, "avi": {"codec": "mpeg4"}}.get(kind, {})
    with open_upload(clip(f"clip.{kind}", **how), name="the video", fps=2, max_px=10**5) as source:
        assert [which(frame.picture) for frame in source] == [0, 5, 10, 15, 20, 25]


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.ts\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["playlist", "list of parts", "session description"],
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat", "sdp"])
def test_an_upload_that_names_other_files_is_no_video(text: str, suffix: str, clip: Clip) -> None:
    other = clip("other.ts")
    upload = other.with_name(f"upload.{suffix}")
    upload.write_text(text)
    with pytest.raises(SourceError, match="the video"):
        list(open_upload(upload, name="the video", fps=2, max_px=10**6))


def test_a_playlist_is_named(tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("#EXTM3U\n#EXTINF:3,\nother.ts\n")
    with pytest.raises(SourceError, match="is a playlist"):
        open_upload(tmp_path / "upload", name="the video", fps=2, max_px=10**6)


def test_the_playlist_of_the_test_above_would_be_followed_if_it_were_ones_own(clip: Clip) -> None:
    own = clip("other.ts").with_name("own.m3u8")
    own.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.ts\n#EXT-X-ENDLIST\n")
    assert list(open_source(str(own), fps=2))


def test_a_video_of_huge_pictures_is_refused_before_one_is_decoded(clip: Clip) -> None:
    with pytest.raises(SourceError, match="64x48 and 3071 pixels"):
        open_upload(clip("clip.mp4"), name="the video", fps=1, max_px=64 * 48 - 1)


def test_what_is_no_video_is_said_without_the_path_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"junk" * 100)
    with pytest.raises(SourceError) as caught:
        open_upload(tmp_path / "upload", name="the video", fps=1, max_px=10**6)
    assert str(tmp_path) not in str(caught.value)
