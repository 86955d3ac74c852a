"""What is cut short, damaged, or no video at all."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
from kinds.clip import Clip, square
from kinds.kind import CLIP, NOW, VIDEO_BY_HTTP, Kind, Refused, Right
from kinds.writing import silence, write

from streamvlm.frame import Picture

_CODE = "invalid_(video|source)"
_NOTHING = Refused("(?i)no video|no picture|not a video", _CODE)

# --- cut short and damaged -------------------------------------------------------------------------------------------

_SHORT = Right({NOW: "a red circle"}, ends_s=(5.0, 7.0), warns=r"ended at 0:(00:)?0[5-7] of 0:(00:)?12")


def cut_short(path: Path, clip: Clip, **how: Any) -> None:
    """Writes a video up to amid its picture at 6.5 seconds."""
    write(path, clip, **how)
    at, _ = _places(path)[13]
    path.write_bytes(path.read_bytes()[: at + 100])


def _cut_before_its_index(path: Path, clip: Clip) -> None:
    write(path, clip)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov")])


def _scratched(path: Path, clip: Clip) -> None:
    """Writes a video of whose pictures three, at 5 to 6 seconds, are overwritten."""
    write(path, clip)
    data = bytearray(path.read_bytes())
    for at, size in _places(path)[10:13]:
        data[at + 4 : at + size] = bytes(255 - i % 251 for i in range(size - 4))
    path.write_bytes(data)


def _places(path: Path) -> list[tuple[int, int]]:
    """Where each picture lies in a file, and how many bytes it has."""
    with av.open(str(path)) as video:
        return [(packet.pos or 0, packet.size) for packet in video.demux(video=0) if packet.pts is not None]


CUT = [
    Kind("cut-faststart", "a download that was cut off, the index first", "clip.mp4",
        partial(cut_short, muxer={"movflags": "faststart"}), _SHORT, (*VIDEO_BY_HTTP, "watch"),
        but={"watch": Right({NOW: "a red circle"}, warns="ended at 0:(00:)?00 of 0:(00:)?0[01]")}),
    Kind("cut-mkv", "a Matroska cut off", "clip.mkv", cut_short, _SHORT),
    Kind("cut-webm", "a WebM cut off", "clip.webm", partial(cut_short, codec="libvpx-vp9"), _SHORT),
    Kind("cut-avi", "an AVI cut off", "clip.avi", partial(cut_short, codec="mjpeg", pixel_format="yuvj420p"), _SHORT),
    Kind("cut-ts", "MPEG-TS cut off within a packet", "clip.ts", cut_short,
        replace(_SHORT, warns=r"ended at 0:(00:)?0[5-7]; it breaks off within a packet"), VIDEO_BY_HTTP),
    Kind("cut-index", "an MP4 cut off before its index", "clip.mp4", _cut_before_its_index,
        Refused("lacks its index", _CODE), but={"source": _NOTHING}),
    Kind("scratched", "damaged pictures in the middle", "clip.mp4", _scratched, CLIP),
]  # fmt: skip

# --- no video --------------------------------------------------------------------------------------------------------


def _holding(data: bytes, path: Path, clip: Clip) -> None:
    path.write_bytes(data)


def _folder_of(files: dict[str, bytes], path: Path, clip: Clip) -> None:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)


def _sound(path: Path, clip: Clip, cover: Picture | None = None) -> None:
    """Writes two seconds of silence, with a cover picture if there is one."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame" if path.suffix == ".mp3" else "aac", rate=48_000)
        if cover is not None:
            picture = out.add_stream("mjpeg", rate=1)
            picture.height, picture.width, picture.pix_fmt = *cover.shape[:2], "yuvj420p"
            out.mux(picture.encode(av.VideoFrame.from_ndarray(cover).reformat(format="yuvj420p")))
            out.mux(picture.encode())
        out.mux(silence(stream, 2.0))


def _zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("clip.txt", "no video")
    return data.getvalue()


_TEXT = b"Dear diary, today nothing was filmed.\n" * 20
_PAGE = b"<!DOCTYPE html><html><head><title>Not found</title></head><body>Sign in to see the video</body></html>"
_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
_PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_NO_SOUND = Refused("(?i)no video", _CODE)

NO_VIDEO = [
    Kind("text", "a text called .mp4", "notes.mp4", partial(_holding, _TEXT), _NOTHING, (*VIDEO_BY_HTTP, "watch")),
    Kind("page", "a web page called .mp4, as a failed download leaves it", "clip.mp4", partial(_holding, _PAGE),
        _NOTHING),
    Kind("zip", "a ZIP called .mp4", "clip.mp4", partial(_holding, _zipped()), _NOTHING),
    Kind("json", "JSON called .mkv", "clip.mkv", partial(_holding, json.dumps({"error": 404}).encode()), _NOTHING),
    Kind("zeros", "a file of zeros, as a full disk leaves it", "clip.mp4", partial(_holding, bytes(100_000)), _NOTHING),
    Kind("empty", "an empty file", "clip.mp4", partial(_holding, b""), Refused("empty", _CODE),
        VIDEO_BY_HTTP),
    Kind("sound-only", "sound alone, in M4A", "song.m4a", _sound, _NO_SOUND),
    Kind("sound-mp3", "sound alone, in MP3, with a cover picture", "song.mp3", partial(_sound, cover=square()),
        Refused("(?i)no video|not taken here", _CODE)),
    Kind("svg", "a drawing", "star.svg", partial(_holding, _SVG), Refused("SVG", "invalid_image"),
        ("file", "http", "image_url", "realtime")),
    Kind("pdf", "a PDF", "star.pdf", partial(_holding, _PDF), Refused("PDF", "invalid_image"),
        ("file", "http", "image_url", "realtime")),
    Kind("no-such-file", "a path at which there is nothing", "clip.mp4", lambda path, clip: None,
        Refused("does not exist"), ("file", "watch")),
    Kind("empty-folder", "a folder with nothing in it", "pictures/", partial(_folder_of, {}),
        Refused("holds no pictures"), ("folder",)),
    Kind("folder-of-texts", "a folder without a picture", "pictures/",
        partial(_folder_of, {"a.txt": _TEXT, "b.md": _TEXT}), Refused("holds no pictures"), ("folder",)),
]  # fmt: skip
