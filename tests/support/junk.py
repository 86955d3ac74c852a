"""A video with packets that cannot be decoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_with_junk(path: Path, *, n_junk: int) -> Path:
    """Twenty good JPEG frames at 10 frames/s, with undecodable packets in the middle."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        frame = frame.reformat(format="yuvj420p")
        for i in range(20 + n_junk):
            if 10 <= i < 10 + n_junk:
                packet = av.Packet(b"\xff\xd8 junk \xff\xd9")
                packet.stream, packet.time_base = stream, Fraction(1, 10)
            else:
                frame.pts = i
                (packet,) = stream.encode(frame)
            packet.pts = packet.dts = i
            out.mux(packet)
    return path
