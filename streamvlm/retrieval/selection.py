"""How many blocks, and which: as few as carry most of the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def select_blocks(scores: Tensor, ids: Sequence[int], top_k: int, coverage: float) -> list[int]:
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
    if not ids:
        return []
    newest_first = torch.from_numpy(np.fromiter(ids, np.int64, len(ids))).argsort(descending=True)
    ordered, order = scores.double().cpu()[newest_first].sort(descending=True, stable=True)
    reached = (ordered - ordered[-1].clamp(max=0)).cumsum(0)
    enough = int(torch.searchsorted(reached, coverage * reached[-1])) + 1
    return sorted(ids[place] for place in newest_first[order[: min(enough, top_k)]].tolist())
