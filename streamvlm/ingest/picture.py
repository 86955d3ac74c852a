"""From a frame as FFmpeg decodes it to a picture as people see it: upright, in RGB."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame

from streamvlm.frame import Picture


def to_picture(frame: VideoFrame) -> Picture:
    """Convert a decoded frame of any size and pixel format to upright (height, width, 3) uint8 RGB."""
    rgb = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90)  # counterclockwise, as np.rot90 turns
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns), dtype=np.uint8)
