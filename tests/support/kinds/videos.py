"""Videos in all the containers and codecs that people have, with what else is in a file beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition
from av.video.frame import VideoFrame
from kinds.clip import Clip, resized, square
from kinds.kind import CLIP, NOW, VIDEO, Kind, Outcome, Refused, Right
from kinds.writing import frames, video_stream, write

_WATCHED = (*VIDEO, "watch")
_NO_UPLOAD = {"video_url": Refused("(?i)mp4.*webm", "invalid_(video|source)")}
"""What a stranger may upload is one of the usual containers, and the refusal names them."""


def video(
    name: str,
    what: str,
    file: str = "clip.mp4",
    outcome: Outcome = CLIP,
    doors: tuple[str, ...] = VIDEO,
    but: Mapping[str, Outcome] | None = None,
    flags: tuple[str, ...] = (),
    **how: Any,
) -> Kind:
    """A kind that `write` writes."""
    return Kind(name, what, file, partial(write, **how), outcome, doors, but or {}, flags=flags)


# --- more than one stream --------------------------------------------------------------------------------------------


def _with_cover(path: Path, clip: Clip) -> None:
    """A video with a cover picture, of another thing, before it and larger."""
    with av.open(str(path), "w") as out:
        stream = video_stream(out, clip, "libx264", "yuv420p", {})
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        out.start_encoding()
        for frame in frames(clip, "yuv420p", clip.times_s):
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        picture = VideoFrame.from_ndarray(resized(square(), 640, 480)).reformat(format="yuvj420p")
        picture.pts, picture.time_base = 0, Fraction(1)
        out.mux(cover.encode(picture))
        out.mux(cover.encode())


def _two_streams(shown: int, path: Path, clip: Clip) -> None:
    """Two streams, the second of smaller pictures: one shows the clip, the other nothing but the square."""
    clips = [replace(clip, pictures=(clip.pictures[0],) * len(clip.pictures))] * 2
    clips[shown] = clip
    with av.open(str(path), "w") as out:
        clips = [
            replace(one, pictures=tuple(resized(picture, width, width * 3 // 4) for picture in one.pictures))
            for one, width in zip(clips, (160, 80), strict=True)
        ]
        streams = [video_stream(out, one, "libx264", "yuv420p", {}) for one in clips]
        for pair in zip(*(frames(one, "yuv420p", clip.times_s) for one in clips), strict=True):
            for stream, frame in zip(streams, pair, strict=True):
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode())


# --- the kinds -------------------------------------------------------------------------------------------------------


def _tagged(tag: str, stream: Any) -> None:
    stream.codec_context.codec_tag = tag


_SHARP = {"b": "2M"}
_STEADY = {"x264-params": "force-cfr=1"}
_ONLY_LATEST = Right({NOW: "a blue star"}, ends_s=(0.0, 12.0))

_CONTAINERS = [
    video("mp4", "H.264 in MP4, the index at its end", doors=_WATCHED),
    video("mp4-faststart", "H.264 in MP4, the index first", muxer={"movflags": "faststart"}),
    video("mp4-fragmented", "H.264 in fragmented MP4",
        muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    video("mp4-hevc", "HEVC in MP4, as phones write it", codec="libx265", setup=partial(_tagged, "hvc1")),
    video("mp4-av1", "AV1 in MP4", codec="libsvtav1"),
    video("mp4-mpeg4", "MPEG-4 Part 2 in MP4", codec="mpeg4", coder=_SHARP),
    video("mov-h264", "H.264 in QuickTime", "clip.mov"),
    video("mov-prores", "ProRes in QuickTime", "clip.mov", codec="prores_ks", pixel_format="yuv422p10le"),
    video("mkv-h264", "H.264 in Matroska", "clip.mkv"),
    video("mkv-ffv1", "FFV1, without loss, of RGB in Matroska", "clip.mkv", codec="ffv1", pixel_format="bgr0"),
    video("webm-vp8", "VP8 in WebM", "clip.webm", codec="libvpx"),
    video("webm-vp9", "VP9 in WebM", "clip.webm", codec="libvpx-vp9", doors=_WATCHED),
    video("webm-live", "VP9 in WebM as browsers record it, without length and index", "clip.webm", codec="libvpx-vp9",
        muxer={"live": "1"}),
    video("avi-mpeg4", "MPEG-4 in AVI", "clip.avi", codec="mpeg4", coder=_SHARP),
    video("avi-mjpeg", "Motion JPEG in AVI", "clip.avi", codec="mjpeg", pixel_format="yuvj420p"),
    video("ts", "H.264 in MPEG-TS", "clip.ts", doors=_WATCHED),
    video("ts-mpeg2", "MPEG-2 in MPEG-TS", "clip.ts", codec="mpeg2video", coder=_SHARP),
    video("mpg", "MPEG-2 in a program stream", "clip.mpg", codec="mpeg2video", coder=_SHARP, but=_NO_UPLOAD),
    video("flv", "H.264 in Flash video", "clip.flv"),
    video("wmv", "WMV 2 in ASF", "clip.wmv", codec="wmv2", coder=_SHARP, container="asf", but=_NO_UPLOAD),
    video("3gp", "H.264 in 3GP", "clip.3gp"),
    video("h264", "H.264 in no container, its rate in its header", "clip.h264", coder=_STEADY, but=_NO_UPLOAD),
    video("mjpeg", "JPEGs one after another in a file, without any time", "clip.mjpeg", _ONLY_LATEST, codec="mjpeg",
        pixel_format="yuvj420p", but=_NO_UPLOAD, flags=("--fps", "25")),
    video("y4m", "raw pictures in YUV4MPEG2", "clip.y4m", doors=("file",), codec="wrapped_avframe",
        container="yuv4mpegpipe"),
]  # fmt: skip
CONTAINERS = [replace(kind, doors=(*kind.doors, "http")) for kind in _CONTAINERS]

STREAMS = [
    video("sound", "sound that goes on after the pictures", audio_s=15.0),
    video("sound-webm", "VP9 and Opus in WebM", "clip.webm", codec="libvpx-vp9", audio_s=12.0),
    Kind("cover", "a cover picture beside the video", "clip.mp4", _with_cover, CLIP),
    Kind("two-videos", "a second, smaller video", "clip.mkv", partial(_two_streams, 0), CLIP),
    Kind("two-videos-chosen", "a second, smaller video, which is asked for", "clip.mkv", partial(_two_streams, 1),
        CLIP, ("file",), flags=("--stream", "1")),
]  # fmt: skip
