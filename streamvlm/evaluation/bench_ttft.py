"""``streamvlm bench ttft``: does a question late in a long stream wait longer, and does memory grow?

A world of at most an hour is drawn and seen beforehand and then shown over and over: every frame still goes through
gate, prefill and memory, but a day of stream takes minutes. The same questions are asked at two minutes, at ten and at
the end, and what the process holds is read along the way.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streamvlm.engine.archive import Archive
from streamvlm.engine.session import Session, SessionConfig
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.world.events import make_world
from streamvlm.world.render import render

EARLY_S = (120, 600)
HOUR_S = 3600
_READINGS = 48
_QUESTIONS = (
    "what do you see now?",
    "where was the red circle?",
    "which badge did the blue star have?",
    "when did the green heart appear?",
    "what came right after the yellow ring?",
    "did you see a pink moon?",
)
_REPEATS = 5


class _Loop:
    """A model that has seen every second of a world already: a second's thumbnail stands for its picture."""

    def __init__(self, model: VideoLanguageModel, length_s: int, chunk: int, progress: Callable[[str], None]) -> None:
        self._model = model
        self._thumbnails: list[Picture] = []
        self._sights: dict[int, Sight] = {}
        world = make_world(2, length_s)
        for start in range(0, length_s, chunk):
            pictures = [render(world, float(s)) for s in range(start, min(start + chunk, length_s))]
            for picture, sight in zip(pictures, model.see(pictures), strict=True):
                self._thumbnails.append(picture[::8, ::8].copy())
                self._sights[id(self._thumbnails[-1])] = sight
            if start % 600 == 0:
                progress(f"{start} s of {length_s} s drawn and seen")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def frame(self, second: int) -> Frame:
        """The frame at a second of the endless stream."""
        return Frame(second, float(second), self._thumbnails[second % len(self._thumbnails)])

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """What was seen beforehand."""
        return [self._sights[id(picture)] for picture in pictures]


def bench_ttft(
    model: VideoLanguageModel,
    config: SessionConfig,
    *,
    duration_s: int,
    progress: Callable[[str], None],
    archive: Archive | None = None,
) -> dict[str, Any]:
    """Watches ``duration_s`` seconds at 1 frame/s and reports times to first token and what is held on the way."""
    loop = _Loop(model, min(duration_s, HOUR_S), config.chunk_frames, progress)
    session = Session(loop, config, archive=archive)
    ttft: dict[int, dict[str, float]] = {}
    held: list[dict[str, float]] = []
    chunk: list[Frame] = []
    every_s = max(300, duration_s // _READINGS)
    began_s = time.perf_counter()
    for second in range(duration_s):
        chunk.append(loop.frame(second))
        if len(chunk) == config.chunk_frames or second in (*EARLY_S, duration_s - 1):
            session.observe(chunk)
            chunk = []
        if second in (*EARLY_S, duration_s - 1):
            ttft[second] = _ttft(session)
        if (second and second % every_s == 0) or second == duration_s - 1:
            held.append({"stream_s": second, **_held(session)})
            progress(", ".join(f"{name} {value:.6g}" for name, value in held[-1].items()))
    late = ttft[duration_s - 1]
    return {
        "stream_s": duration_s,
        "x real time": duration_s / (time.perf_counter() - began_s),
        "ttft_ms by stream second": ttft,
        "ratio of medians, end to": {f"{s} s": late["median"] / ttft[s]["median"] for s in EARLY_S if s in ttft},
        "held": held,
        "host_budget_bytes": session.memory.host_budget_bytes,
    }


def _ttft(session: Session) -> dict[str, float]:
    for question in _QUESTIONS:
        session.ask(question, out_of_band=True).answer  # noqa: B018 - warms caches up
    times = [
        1000 * session.ask(question, out_of_band=True).answer.timings.ttft_s
        for _ in range(_REPEATS)
        for question in _QUESTIONS
    ]
    return {"median": statistics.median(times), "worst": max(times), "n": len(times)}


def _held(session: Session) -> dict[str, float]:
    stats, disk = session.memory, session.memory.disk
    held: dict[str, float] = {
        "blocks": stats.n_blocks,
        "forgotten": stats.n_forgotten,
        "rss_MB": round(rss_bytes() / 1e6, 1),
        "host_MB": round(stats.host_bytes / 1e6, 1),
        "open files": len(list(Path("/proc/self/fd").iterdir())),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
    }
    if disk is not None:
        held |= {"disk_MB": round(disk.file_bytes / 1e6, 1), "faded": disk.n_faded, "dropped": disk.n_dropped}
    return held


def rss_bytes() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
