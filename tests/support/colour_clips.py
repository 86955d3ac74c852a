"""Short videos of one still picture, stored as a test wants it: turned, stretched, in any colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from streamvlm.frame import Picture


def write_still_clip(
    path: Path,
    stored: Picture,
    *,
    matrix: tuple[int, ...] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    **attributes: Any,
) -> Path:
    """Writes half a second of a picture; `attributes` are those of the codec's context."""
    height, width = stored.shape[:2]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for i in range(5):
            kind = "rgb24" if stored.shape[2] == 3 else "rgba"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format=kind)
            frame = frame.reformat(format=pixel_format)
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
