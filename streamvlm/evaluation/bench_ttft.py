"""``streamvlm bench ttft``: does a question late in a long stream wait longer, and does memory grow?

A world of two hours is rendered, not slept through; the same questions are asked at two minutes and at the end, and
the process's resident memory is read along the way.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamvlm.engine.session import Session, SessionConfig
from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import make_world
from streamvlm.world.render import render

EARLY_S = 120
_QUESTIONS = (
    "what do you see now?",
    "where was the red circle?",
    "which badge did the blue star have?",
    "when did the green heart appear?",
    "what came right after the yellow ring?",
    "did you see a pink moon?",
)
_REPEATS = 5


def bench_ttft(
    model: VideoLanguageModel, config: SessionConfig, *, duration_s: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Watches ``duration_s`` seconds at 1 frame/s and reports times to first token and memory on the way."""
    session, world = Session(model, config), make_world(2, duration_s)
    early: dict[str, float] = {}
    rss: list[tuple[int, int]] = []
    chunk: list[Frame] = []
    for second in range(duration_s):
        chunk.append(Frame(second, float(second), render(world, float(second))))
        if len(chunk) == config.chunk_frames or second in (EARLY_S, duration_s - 1):
            session.observe(chunk)
            chunk = []
        if second == EARLY_S:
            early = _ttft(session)
        if second % 300 == 0 or second == duration_s - 1:
            rss.append((second, rss_bytes()))
            progress(f"{second} s of stream, {session.memory.n_blocks} blocks, RSS {rss[-1][1] / 1e6:.0f} MB")
    late = _ttft(session)
    stats = session.memory
    return {
        "stream_s": duration_s,
        "ttft_ms at 2 min": early,
        "ttft_ms at the end": late,
        "ratio of medians": late["median"] / early["median"],
        "rss_bytes by stream second": rss,
        "blocks": stats.n_blocks,
        "forgotten": stats.n_forgotten,
        "host_bytes": stats.host_bytes,
        "host_budget_bytes": stats.host_budget_bytes,
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


def rss_bytes() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
