"""``streamvlm bench ttft``: whether a question late in a long stream waits longer, and whether memory grows.

A world of at most an hour is drawn and encoded beforehand and then shown over and over: every frame still goes through
gate, prefill and memory, but a day of stream takes minutes. The same questions are asked from two minutes on, from ten
on and before the end, one a second for a stretch, because a question costs more if the newest frame was not kept clear.
On the way, the memory of the process is measured.

A machine's pace may drift between two stretches. So a second session holds the stream as it was at the early stretches,
in RAM, goes on from there in the last stretch, and is asked in turns with the first one: a second ratio, in which each
may disturb the other.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamvlm.archive.archive import Archive
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
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
_STRETCH_S = 48
"""Seconds of asking, one question each, a multiple of the questions."""


class _Loop:
    """A model that has encoded every second of a world already: a second's thumbnail stands for its picture."""

    def __init__(self, model: VideoLanguageModel, length_s: int, chunk: int, progress: Callable[[str], None]) -> None:
        self._model = model
        world = make_world(2, length_s)
        picture = render(world, 0.0)
        (first,) = model.see([picture])
        # Tables, not an object a second: such objects would be scattered over the heap that the vision tower needs.
        self._thumbnails = np.empty((length_s, *picture[::8, ::8].shape), np.uint8)
        self._features = first.feature.new_empty(length_s, *first.feature.shape)
        self._details = first.detail.new_empty(length_s, *first.detail.shape)
        for start in range(0, length_s, chunk):
            pictures = [render(world, float(s)) for s in range(start, min(start + chunk, length_s))]
            for second, sight in enumerate(model.see(pictures), start):
                self._features[second], self._details[second] = sight.feature, sight.detail
                self._thumbnails[second] = pictures[second - start][::8, ::8]
            if start % 600 == 0:
                progress(f"{start} s of {length_s} s drawn and seen")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def frame(self, second: int) -> Frame:
        """Returns the frame at a second of the endless stream."""
        return Frame(second, float(second), self._thumbnails[second % len(self._thumbnails)])

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """Returns what was seen beforehand."""
        begin, stride = self._thumbnails.ctypes.data, self._thumbnails.strides[0]
        seconds = [(picture.ctypes.data - begin) // stride for picture in pictures]
        return [Sight(self._features[second], self._details[second]) for second in seconds]


def bench_ttft(
    model: VideoLanguageModel,
    config: SessionConfig,
    *,
    duration_s: int,
    progress: Callable[[str], None],
    archive: Archive | None = None,
) -> dict[str, Any]:
    """Watches ``duration_s`` seconds at 1 frame/s and reports times to the first token, and memory on the way."""
    loop = _Loop(model, min(duration_s, HOUR_S), config.chunk_frames, progress)
    session = Session(loop, config, archive=archive)
    last_s = duration_s - _STRETCH_S
    twins = {begin_s: Session(loop, config, runner=session.runner) for begin_s in EARLY_S if begin_s < last_s}
    in_turns = {begin_s: list[float]() for begin_s in twins}
    stretches = {begin_s: list[float]() for begin_s in (*EARLY_S, last_s) if begin_s <= last_s}
    held: list[dict[str, float]] = []
    chunk: list[Frame] = []
    every_s = max(300, duration_s // _READINGS)
    began_s = time.perf_counter()
    for second in range(duration_s):
        chunk.append(loop.frame(second))
        asking = [times_ms for begin_s, times_ms in stretches.items() if begin_s <= second < begin_s + _STRETCH_S]
        if len(chunk) == config.chunk_frames or asking:
            session.observe(chunk)
            for begin_s, twin in twins.items():
                twin.observe([frame for frame in chunk if frame.time_s < begin_s])
            chunk = []
        for times_ms in asking:
            times_ms.append(_ttft_ms(session, second))
        if second >= last_s:
            for begin_s, twin in twins.items():
                then = begin_s + second - last_s
                twin.observe(loop.frame(then))
                in_turns[begin_s].append(_ttft_ms(twin, then))
        if (second and second % every_s == 0) or second == duration_s - 1:
            held.append({"stream_s": second, **_held(session)})
            progress(", ".join(f"{name} {value:.6g}" for name, value in held[-1].items()))
    medians = {begin_s: statistics.median(times_ms) for begin_s, times_ms in stretches.items()}
    return {
        "stream_s": duration_s,
        "x real time": duration_s / (time.perf_counter() - began_s),
        "ttft_ms from second": {
            begin_s: {"median": medians[begin_s], "worst": max(times_ms), "n": len(times_ms)}
            for begin_s, times_ms in stretches.items()
        },
        "ttft_ms as at second, asked in turns with the end": {s: statistics.median(t) for s, t in in_turns.items()},
        "ratio of medians, end to": {f"{s} s": medians[last_s] / medians[s] for s in EARLY_S if s in medians},
        "the same, asked in turns": {f"{s} s": medians[last_s] / statistics.median(t) for s, t in in_turns.items()},
        "held": held,
        "host_budget_bytes": session.memory.host_budget_bytes,
    }


def _ttft_ms(session: Session, second: int) -> float:
    question = _QUESTIONS[second % len(_QUESTIONS)]
    session.ask(question, out_of_band=True).answer  # noqa: B018 - warms caches up
    return 1000 * session.ask(question, out_of_band=True).answer.timings.ttft_s


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
    """Returns the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
