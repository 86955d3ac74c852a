"""Evidence: the seconds of video that an answer is based on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock


@dataclass(frozen=True, slots=True)
class Evidence:
    """A block that an answer attended to.

    Attributes:
        start_s: Stream time at which the block begins.
        end_s: Stream time up to which it stands.
        fidelity: ``clear`` or ``fuzzy``.
        score: Its share, in (0, 1], of the attention that all blocks got.
        block_id: Which block it is; None for what is in none, such as the frame at question time.
    """

    start_s: float
    end_s: float
    fidelity: Fidelity
    score: float
    block_id: int | None = None


def rank_evidence(
    blocks: Sequence[KVBlock], masses: Sequence[float], most: int = 5, least_share: float = 0.05
) -> list[Evidence]:
    """Returns the blocks that an answer attended to, best first; of equal ones the newer first.

    Args:
        blocks: The blocks the answer could see; a negative id stands for what is in no block.
        masses: Attention mass that each got, >= 0, in any unit.
        most: Most blocks to return.
        least_share: Share of the total below which a block is left out.
    """
    total = sum(masses)
    if total <= 0:
        return []
    ranked = sorted(zip(masses, blocks, strict=True), key=lambda pair: (-pair[0], -pair[1].id))
    return [
        Evidence(block.start_s, block.end_s, block.fidelity, mass / total, block.id if block.id >= 0 else None)
        for mass, block in ranked[:most]
        if mass / total >= least_share
    ]
