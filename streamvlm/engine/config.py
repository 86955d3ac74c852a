"""Bounds for all live sessions of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from streamvlm.archive.archive import ArchiveConfig
from streamvlm.errors import UsageError
from streamvlm.session.config import SessionConfig


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Bounds for all live sessions of one engine.

    Attributes:
        max_sessions: One more is refused.
        frame_queue: Newest frames that wait in a session; beyond, the oldest is dropped.
        max_questions: Questions waiting or under way in a session; one more is refused.
        max_standing: Standing questions armed in a session; one more is refused.
        step_frames: Most frames, of all sessions together, that one vision call takes.
        ingest_every: While questions are under way, frames that wait begin to be watched at least every so many steps.
        device_budget_bytes: Device memory for the caches of all sessions: each gets the same share, at most its own.
        host_budget_bytes: RAM for the blocks of all sessions; one whose share no longer fits is refused.
        disk_budget_bytes: Disk for the blocks of all sessions, those at rest too; where it is used up, each lets its
            own oldest fade and go.
        home: Each session's archive is the folder of its id in here; None: nothing survives.
        session: What each session gets.
        archive: How each is kept on disk.
    """

    max_sessions: int = 8
    frame_queue: int = 16
    max_questions: int = 8
    max_standing: int = 8
    step_frames: int = 8
    ingest_every: int = 4
    device_budget_bytes: int = 8 << 30
    host_budget_bytes: int = 2 << 30
    disk_budget_bytes: int = 64 << 30
    home: Path | None = None
    session: SessionConfig = field(default_factory=lambda: SessionConfig(host_budget_bytes=256 << 20))
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)

    def __post_init__(self) -> None:
        """Refuses what no engine can run with.

        Raises:
            UsageError: If a count is not positive, or not one session fits into the host budget.
        """
        for name in ("max_sessions", "frame_queue", "max_questions", "max_standing", "step_frames", "ingest_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; give a whole number of at least 1.")
        if self.session.host_budget_bytes > self.host_budget_bytes:
            raise UsageError(
                f"A session's host budget of {self.session.host_budget_bytes >> 20} MiB is more than the "
                f"{self.host_budget_bytes >> 20} MiB of all sessions; give it less, or all more."
            )

    @property
    def share(self) -> SessionConfig:
        """The settings of each session: as set, with its share of the device."""
        share_bytes = self.device_budget_bytes // self.max_sessions
        return replace(self.session, device_budget_bytes=min(self.session.device_budget_bytes, share_bytes))
