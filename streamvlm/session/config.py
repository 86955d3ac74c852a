"""Settings of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamvlm.errors import UsageError
from streamvlm.gate.gate import GateConfig
from streamvlm.policies.registry import DEFAULT_POLICY, check_policy


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of one stream.

    Attributes:
        policy: Name of the memory policy: what is kept, and which blocks a question gets.
        window_blocks: Newest blocks that every chunk and every question attends to.
        top_k: Most blocks to retrieve for a question.
        coverage: Share of the score of all blocks that is enough; fewer than ``top_k`` blocks may reach it.
        chunk_frames: Most frames that one vision pass and one prefill take together.
        host_budget_bytes: RAM for blocks; beyond it, the least recently used are forgotten.
        device_budget_bytes: Device memory for a cache of blocks; a CPU has no use for it.
        max_question_tokens: A longer question is refused.
        max_answer_tokens: An answer is cut there.
        max_dialogue_tokens: Earlier questions and answers kept in view, the oldest dropped first but never the last;
            by default as many as the model was made for.
        log_decisions: Newest gate decisions held in RAM; an archive holds a million.
        gate: Settings of the curvature gate; the model's noise floor takes the place of the one given here.
    """

    policy: str = DEFAULT_POLICY
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
        """Refuses what no stream can run with.

        Raises:
            UsageError: If there is no such policy, a count is not positive or the coverage not in (0, 1].
        """
        check_policy(self.policy)
        counts = {"window": self.window_blocks, "top-k": self.top_k, "chunk": self.chunk_frames}
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"The {name} is {count}; give a whole number of at least 1.")
        if not 0 < self.coverage <= 1:
            raise UsageError(f"The coverage is {self.coverage}; give a share above 0 and at most 1.")
