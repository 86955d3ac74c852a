"""Selects blocks by their scores: as few as carry most of the score."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from streamvlm.retrieval.scorer import Ids


def select_blocks(scores: Tensor, ids: Ids, top_k: int, coverage: float) -> list[int]:
    """Picks the smallest set of blocks whose share of the total score reaches ``coverage``.

    Peaked scores need few blocks, and fewer blocks answer better. Of equal scores the newer block wins.

    Args:
        scores: (len(ids),) finite, any device. If one is negative, all are counted from the smallest.
        ids: The scored blocks, in any order.
        top_k: Most blocks to pick, at least 1.
        coverage: Share of the total score to reach, in (0, 1].

    Returns:
        The picked ids in time order: at least one if there are any, at most ``top_k``.
    """
    if len(ids) == 0:
        return []
    masses = scores.double().cpu()
    masses = masses - masses.min().clamp(max=0)
    # Only what can be picked is sorted: everything not below the last of the best, ties included.
    least = masses.topk(min(top_k, len(masses))).values[-1]
    candidates = (masses >= least).nonzero()[:, 0]
    best = sorted((-float(masses[i]), -int(ids[i])) for i in candidates.tolist())[:top_k]
    reached = np.cumsum([-mass for mass, _ in best])
    enough = int(np.searchsorted(reached, coverage * float(masses.sum()))) + 1
    return sorted(-negative for _, negative in best[:enough])
