"""The same pictures in another container."""

from __future__ import annotations

from pathlib import Path

import av


def remux(clip: Path, to: Path) -> Path:
    """Copies the packets of a clip's video into a file, in the container of its name."""
    with av.open(str(clip)) as source, av.open(str(to), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return to
