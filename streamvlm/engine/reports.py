"""How live sessions and their engine stand, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from streamvlm.archive.diary import Watched
from streamvlm.memory.block import KVBlock
from streamvlm.memory.hierarchy import MemoryStats


def degraded(memory: MemoryStats) -> Counter[str]:
    """What has become of blocks on disk since a session was opened: see ``EngineStats.n_degraded``."""
    disk = memory.disk
    if disk is None:
        return Counter()
    return Counter(faded=disk.n_faded, dropped=disk.n_dropped, damaged=disk.n_damaged)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the engine began, and what it holds now.

    Attributes:
        n_sessions: Open now.
        max_sessions: That may be open.
        up_s: Seconds since it began.
        busy_s: Of these, spent in steps: its load is the ratio of what both grow by.
        step_s: Seconds that the step under way has taken so far; 0 where there is none.
        n_steps: Steps done.
        n_frames: Frames watched.
        n_dropped: Frames dropped before they could be watched.
        n_clear: Frames kept clear; likewise ``n_fuzzy`` and ``n_discarded``.
        n_fuzzy: See ``n_clear``.
        n_discarded: See ``n_clear``.
        n_waiting: Frames waiting now.
        n_questions: Questions waiting or being answered now.
        n_questions_waiting: Of these, not begun yet.
        n_answers: Questions answered to the end.
        n_cancelled: Questions cancelled.
        n_refused: Questions that ended in an error.
        n_tokens: Tokens answered.
        n_fired: Times that standing questions fired.
        n_degraded: Blocks on disk that have ``faded``, were ``dropped`` for want of room, or were found ``damaged``.
        n_clear_blocks: Blocks that the open sessions remember clear.
        n_fuzzy_blocks: The same, fuzzy.
        device_bytes: Device memory that their blocks take.
        device_budget_bytes: Device memory that all blocks may take.
        host_bytes: RAM that their blocks take.
        host_budget_bytes: RAM that all blocks may take.
        disk_bytes: Disk that the blocks of all sessions take, those at rest too.
        disk_budget_bytes: Disk that they may take.
        lag_s: Stream time by which the session furthest behind its newest frame is behind.
        wait_s: Seconds from the coming of a frame to its being remembered, in the slowest session.
    """

    n_sessions: int
    max_sessions: int
    up_s: float
    busy_s: float
    step_s: float
    n_steps: int
    n_frames: int
    n_dropped: int
    n_clear: int
    n_fuzzy: int
    n_discarded: int
    n_waiting: int
    n_questions: int
    n_questions_waiting: int
    n_answers: int
    n_cancelled: int
    n_refused: int
    n_tokens: int
    n_fired: int
    n_degraded: Counter[str]
    n_clear_blocks: int
    n_fuzzy_blocks: int
    device_bytes: int
    device_budget_bytes: int
    host_bytes: int
    host_budget_bytes: int
    disk_bytes: int
    disk_budget_bytes: int
    lag_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class LiveStats:
    """How a live session stands.

    Attributes:
        time_s: Stream time of the newest frame watched; None before the first.
        n_offered: Frames offered, by this process.
        n_dropped: Of these, dropped because newer ones came before they could be watched.
        n_clear: Of these, kept clear; likewise ``n_fuzzy`` and ``n_discarded``.
        n_fuzzy: See ``n_clear``.
        n_discarded: See ``n_clear``.
        n_waiting: Frames that wait to be watched.
        n_questions: Questions that wait or are being answered.
        lag_s: Stream time by which the newest frame watched is behind the newest one offered.
        wait_s: Seconds that passed between offering the newest frame watched and its being remembered.
        memory: What is remembered.
        failure: Why the stream cannot go on; None while it can.
    """

    time_s: float | None
    n_offered: int
    n_dropped: int
    n_clear: int
    n_fuzzy: int
    n_discarded: int
    n_waiting: int
    n_questions: int
    lag_s: float
    wait_s: float
    memory: MemoryStats
    failure: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is known of a stretch of a stream: the blocks that stand for it, and what was decided on its frames."""

    blocks: tuple[KVBlock, ...]
    decisions: tuple[Watched, ...]
