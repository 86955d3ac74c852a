"""Videos whose clocks are as clocks are: uneven, late, wound back, wrapped, or hardly ever ticking."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from kinds.clip import Clip
from kinds.kind import CLIP, NOW, VIDEO, WHEN, Kind, Right
from kinds.videos import video
from kinds.writing import frames, video_stream, write

_WRAP_S = 2**33 / 90_000
"""When the clock of MPEG-TS, of 33 bits, begins again."""

_B_FRAMES = {"preset": "veryfast", "bf": "3", "g": "24"}


def _later(by_s: float, from_picture: int, path: Path, clip: Clip) -> None:
    """From one picture on, all times are later."""
    write(path, clip, times_s=[time_s + by_s * (i >= from_picture) for i, time_s in enumerate(clip.times_s)])


def _joined(second_from_s: float, path: Path, clip: Clip) -> None:
    """Two recordings, one after the other in one file, as `cat` joins them; the second has a clock of its own."""
    middle, parts = len(clip.pictures) // 2, []
    for pictures, from_s in ((clip.pictures[:middle], 0.0), (clip.pictures[middle:], second_from_s)):
        part, half = path.with_suffix(".part"), replace(clip, pictures=pictures)
        write(part, half, container="mpegts", times_s=[from_s + time_s for time_s in half.times_s])
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))


def _hidden(path: Path, clip: Clip) -> None:
    """Two seconds of the red circle come first and are cut away by an edit list."""
    n = int(2 * clip.rate)
    circle = clip.pictures[len(clip.pictures) // 2]
    longer = replace(clip, pictures=(circle,) * n + clip.pictures)
    with av.open(str(path), "w", options={"use_editlist": "1", "avoid_negative_ts": "disabled"}) as out:
        stream = video_stream(out, clip, "libx264", "yuv420p", {"g": "48"})
        for frame in frames(longer, "yuv420p", longer.times_s):
            frame.pts = (frame.pts or 0) - 2000
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _uneven(path: Path, clip: Clip) -> None:
    """All pictures but every fourth come late, each by another share of a picture."""
    late = (0.0, 0.22, 0.04, 0.14)
    write(path, clip, times_s=[float((i + late[i % 4]) / clip.rate) for i in range(len(clip.pictures))])


def _sparse(path: Path, clip: Clip) -> None:
    """A picture a minute: the circle is there from the fourth to the eighth."""
    write(path, replace(clip, pictures=clip.pictures[::2], rate=Fraction(1, 60)))


def _long(path: Path, clip: Clip) -> None:
    """A picture stands still, without another one, for as long as nothing changes."""
    third = len(clip.pictures) // 3
    still = replace(clip, pictures=clip.pictures[::third])
    write(path, still, times_s=clip.times_s[::third])


_SPARSE = Right({NOW: "a blue star", WHEN: "at 0:04:00"}, ends_s=(660.0, 660.0))
_STILL = Right({NOW: "a blue star", WHEN: "at 0:00:04"}, ends_s=(8.0, 12.0))

TIMES = [
    Kind("vfr", "pictures at uneven times", "clip.mp4", _uneven, CLIP),
    video("b-frames", "pictures out of order, and one key picture", coder=_B_FRAMES, doors=(*VIDEO, "watch")),
    video("b-frames-ts", "pictures out of order in MPEG-TS", "clip.ts", coder=_B_FRAMES),
    Kind("late-start", "the first picture at 100 s", "clip.mp4", partial(_later, 100.0, 0), CLIP),
    Kind("late-start-ts", "the first picture at 5,000 s of MPEG-TS", "clip.ts", partial(_later, 5000.0, 0), CLIP),
    Kind("edit-list", "two seconds before the first picture, cut away by an edit list", "clip.mp4", _hidden, CLIP),
    Kind("wrapped-ts", "the clock of MPEG-TS begins again amid it", "clip.ts", partial(_later, _WRAP_S - 6, 0), CLIP),
    Kind("leap-ts", "the clock leaps forward by 30 minutes", "clip.ts", partial(_later, 1800.0, 12), CLIP),
    Kind("joined-ts", "two recordings joined, the second from 40 minutes on", "clip.ts", partial(_joined, 2400.0),
        CLIP),
    Kind("joined-ts-back", "two recordings joined, both from 0 on", "clip.ts", partial(_joined, 0.0), CLIP),
    Kind("sparse", "one picture a minute, for 12 minutes", "clip.mp4", _sparse, _SPARSE),
    Kind("still-video", "three pictures, each of them for four seconds", "clip.mp4", _long, _STILL),
]  # fmt: skip
