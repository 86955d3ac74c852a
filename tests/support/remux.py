"""The same pictures in another container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

_TICK = Fraction(1, 90_000)


def remux(clip: Path, to: Path, *, early_ticks: int = 0) -> Path:
    """Copies the packets of a clip's video into a file, in the container of its name.

    All pictures but the first may come some ticks of 90 kHz early, as where their times were rounded down.
    """
    with av.open(str(clip)) as source, av.open(str(to), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                ticks, early = packet.time_base / _TICK, early_ticks if packet.pts else 0
                packet.pts, packet.dts = int(packet.pts * ticks) - early, int(packet.dts * ticks) - early
                packet.time_base, packet.stream = _TICK, stream
                out.mux(packet)
    return to
