"""What a stream may use, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from streamvlm.engine.archive import ArchiveConfig
from streamvlm.errors import UsageError
from streamvlm.ingest.gate import GateConfig


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one stream may use.

    Attributes:
        window_blocks: Newest blocks that every chunk and every question attends to.
        top_k: Most blocks to retrieve for a question.
        coverage: Share of the retrieval score that is enough; fewer than ``top_k`` blocks may reach it.
        chunk_frames: Most frames that one vision pass and one prefill take together.
        host_budget_bytes: RAM for blocks; the oldest unused are forgotten beyond it.
        device_budget_bytes: Device memory for a cache of blocks; a CPU has no use for it.
        max_question_tokens: A longer question is refused.
        max_answer_tokens: An answer is cut there.
        max_dialogue_tokens: Earlier questions and answers kept in view, the oldest dropped first but never the last;
            by default as many as the model was made for.
        log_decisions: Newest gate decisions held in RAM; an archive holds a million.
        gate: The gate's settings; the model's noise floor takes the place of the one given here.
    """

    window_blocks: int = 8
    top_k: int = 8
    coverage: float = 0.5
    chunk_frames: int = 8
    host_budget_bytes: int = 512 << 20
    device_budget_bytes: int = 1 << 30
    max_question_tokens: int = 512
    max_answer_tokens: int = 128
    max_dialogue_tokens: int | None = None
    log_decisions: int = 10_000
    gate: GateConfig = field(default_factory=lambda: GateConfig(max_gap_s=10.0))

    def __post_init__(self) -> None:
        """Refuse what no stream can run with.

        Raises:
            UsageError: If a count is not positive or the coverage not in (0, 1].
        """
        counts = {"window": self.window_blocks, "top-k": self.top_k, "chunk": self.chunk_frames}
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"The {name} is {count}; give a whole number of at least 1.")
        if not 0 < self.coverage <= 1:
            raise UsageError(f"The coverage is {self.coverage}; give a share above 0 and at most 1.")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What all live sessions of one engine may use.

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
        """Refuse what no engine can run with.

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
        """What each session gets: as set, with its share of the device."""
        share_bytes = self.device_budget_bytes // self.max_sessions
        return replace(self.session, device_budget_bytes=min(self.session.device_budget_bytes, share_bytes))
