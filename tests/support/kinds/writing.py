"""Writes pictures as a video, by PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from kinds.clip import Clip

from streamvlm.frame import Picture

_CODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "g": "4", "crf": "18"},  # a key picture every two seconds of the clip
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1", "crf": "18"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1", "crf": "25"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "1M"},
}


_ON_A_GRID = ("mpeg4", "mpeg2video", "wmv2", "wrapped_avframe")
"""Codecs whose pictures lie on the grid of their rate; those of all others, on milliseconds."""


def write(
    path: Path,
    clip: Clip,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    container: str | None = None,
    coder: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    times_s: Sequence[float] = (),
    setup: Callable[[Any], None] = lambda stream: None,
    convert: Callable[[Picture], VideoFrame] | None = None,
    audio_s: float = 0.0,
) -> None:
    """Writes a clip.

    Args:
        path: Whose suffix says which container it is, unless that is told.
        clip: What it shows.
        codec: How pictures are encoded.
        pixel_format: As what they are.
        container: FFmpeg's name of it.
        coder: Options of the encoder, besides the usual ones.
        muxer: Options of the container.
        times_s: When the pictures are shown, if not evenly.
        setup: Changes the stream before the first picture.
        convert: A picture as a frame of that pixel format; by default FFmpeg does it.
        audio_s: Seconds of silence beside it.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        stream = video_stream(out, clip, codec, pixel_format, coder or {})
        setup(stream)
        sound: Any = out.add_stream(out.default_audio_codec, rate=48_000) if audio_s else None
        for frame in frames(clip, pixel_format, times_s or clip.times_s, convert):
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None:
            out.mux(silence(sound, audio_s))


def video_stream(out: OutputContainer, clip: Clip, codec: str, pixel_format: str, coder: dict[str, str]) -> Any:
    """A stream of a container for pictures of the clip's size and rate."""
    stream: Any = out.add_stream(codec, rate=clip.rate, options=_CODERS.get(codec, {}) | coder)
    stream.height, stream.width = clip.pictures[0].shape[:2]
    stream.pix_fmt = pixel_format
    stream.codec_context.time_base = 1 / clip.rate if codec in _ON_A_GRID else Fraction(1, 1000)
    stream.codec_context.thread_count = 1
    return stream


def frames(
    clip: Clip, pixel_format: str, times_s: Sequence[float], convert: Callable[[Picture], VideoFrame] | None = None
) -> Iterator[VideoFrame]:
    """The pictures of a clip, with their times in milliseconds."""
    for time_s, picture in zip(times_s, clip.pictures, strict=True):
        given = "rgba" if picture.shape[2] == 4 else "rgb24"
        plain = VideoFrame.from_ndarray(picture, format=given)
        frame = convert(picture) if convert else plain.reformat(format=pixel_format)
        frame.time_base, frame.pts = Fraction(1, 1000), round(time_s * 1000)
        yield frame


def silence(stream: Any, length_s: float) -> list[Packet[Any]]:
    """Encoded silence."""
    n_samples = 1024
    packets: list[Packet[Any]] = []
    for i in range(int(length_s * 48_000 / n_samples)):
        frame = AudioFrame.from_ndarray(np.zeros((2, n_samples), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, i * n_samples, Fraction(1, 48_000)
        packets += stream.encode(frame)
    packets += stream.encode()
    return packets
