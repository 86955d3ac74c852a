"""Reports in numbers of live sessions and of their engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

from streamvlm.archive.diary import FrameRecord
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters, counter, gauge
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.engine.worker import Worker
from streamvlm.memory.block import KVBlock
from streamvlm.memory.hierarchy import MemoryStats


@dataclass(frozen=True, slots=True)
class EngineView:
    """The parts of an engine that its statistics are read from, under its lock.

    Attributes:
        config: Bounds.
        worker: Runs the sessions.
        sessions: Those that are open.
        disk_bytes: Disk that the blocks of all sessions take, those at rest too.
        began_s: When the engine began (``time.monotonic``).
    """

    config: EngineConfig
    worker: Worker
    sessions: Sequence[ScheduledSession]
    disk_bytes: int
    began_s: float

    def total(self, of: Callable[[ScheduledSession], int]) -> int:
        """Returns a sum over all sessions."""
        return sum(map(of, self.sessions))

    def most(self, of: Callable[[ScheduledSession], float]) -> float:
        """Returns the highest value of all sessions; 0 if there is none."""
        return max(map(of, self.sessions), default=0.0)

    @property
    def device_bytes(self) -> int:
        """Device memory that blocks take."""
        return self.total(lambda session: session.progress.memory.device_bytes)

    @property
    def host_bytes(self) -> int:
        """RAM that blocks take."""
        return self.total(lambda session: session.progress.memory.host_bytes)


_BYTES, _BUDGET, _USAGE = "Bytes of blocks.", "Bytes that blocks may take.", "Share of the budget in use."
_BLOCKS = "Blocks remembered."


@dataclass(slots=True, kw_only=True)
class EngineStats(EngineCounters):
    """What has been done since the engine began, and how it stands now; each field says what it is in its metric."""

    up_s: float = counter("up_seconds", "Time since the engine began.", lambda view: time.monotonic() - view.began_s)
    busy_s: float = counter("busy_seconds", "Time spent in steps.", lambda view: view.worker.busy_s)
    step_s: float = gauge("step_seconds", "Time that the step under way has taken.", lambda view: view.worker.step_s)
    n_sessions: int = gauge("num_sessions_running", "Sessions open.", lambda view: len(view.sessions))
    max_sessions: int = gauge("num_sessions_max", "Sessions that may be open.", lambda view: view.config.max_sessions)
    n_questions_running: int = gauge(
        "num_requests_running",
        "Questions that are being answered.",
        lambda view: view.total(lambda session: sum(queued.task is not None for queued in session.questions)),
    )
    n_questions_waiting: int = gauge(
        "num_requests_waiting",
        "Questions that wait for frames or for their turn.",
        lambda view: view.total(lambda session: sum(queued.task is None for queued in session.questions)),
    )
    n_waiting: int = gauge(
        "frames_waiting", "Frames that wait to be watched.", lambda view: view.total(lambda session: len(session.queue))
    )
    lag_s: float = gauge(
        "ingest_lag_seconds",
        "Stream time by which the session furthest behind is behind.",
        lambda view: view.most(lambda session: session.lag_s),
    )
    wait_s: float = gauge(
        "frame_age_seconds",
        "From a frame's coming to its being remembered, in the slowest session.",
        lambda view: view.most(lambda session: session.progress.wait_s),
    )
    n_clear_blocks: int = gauge(
        "kv_blocks", _BLOCKS, lambda view: view.total(lambda s: s.progress.memory.n_clear), fidelity="clear"
    )
    n_fuzzy_blocks: int = gauge(
        "kv_blocks", _BLOCKS, lambda view: view.total(lambda s: s.progress.memory.n_fuzzy), fidelity="fuzzy"
    )
    device_bytes: int = gauge("kv_bytes", _BYTES, lambda view: view.device_bytes, tier="device")
    host_bytes: int = gauge("kv_bytes", _BYTES, lambda view: view.host_bytes, tier="host")
    disk_bytes: int = gauge("kv_bytes", _BYTES, lambda view: view.disk_bytes, tier="disk")
    device_budget_bytes: int = gauge(
        "kv_budget_bytes", _BUDGET, lambda view: view.config.device_budget_bytes, tier="device"
    )
    host_budget_bytes: int = gauge("kv_budget_bytes", _BUDGET, lambda view: view.config.host_budget_bytes, tier="host")
    disk_budget_bytes: int = gauge("kv_budget_bytes", _BUDGET, lambda view: view.config.disk_budget_bytes, tier="disk")
    device_usage: float = gauge(
        "kv_cache_usage_perc", _USAGE, lambda view: view.device_bytes / view.config.device_budget_bytes, tier="device"
    )
    host_usage: float = gauge(
        "kv_cache_usage_perc", _USAGE, lambda view: view.host_bytes / view.config.host_budget_bytes, tier="host"
    )
    disk_usage: float = gauge(
        "kv_cache_usage_perc", _USAGE, lambda view: view.disk_bytes / view.config.disk_budget_bytes, tier="disk"
    )

    @classmethod
    def of(cls, counters: EngineCounters, view: EngineView) -> Self:
        """Reads every field from where it was declared to come from; the open sessions' own counts are added."""
        stats = cls(**asdict(counters))
        for session in view.sessions:
            session.add_counts(stats, session.progress.memory)
        for one in fields(stats):
            if (source := one.metadata["source"]) is not None:
                setattr(stats, one.name, source(view))
        return stats


@dataclass(frozen=True, slots=True)
class LiveStats:
    """Counts of a live session.

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
        failure: The reason why the stream cannot go on; None while it can.
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
    """A stretch of a stream: the blocks that stand for it, and the gate's decisions on its frames."""

    blocks: tuple[KVBlock, ...]
    decisions: tuple[FrameRecord, ...]
