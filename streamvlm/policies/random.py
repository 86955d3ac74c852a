"""Policy ``random``: blocks are ranked by lot, with all else as in ``streamvlm``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from streamvlm.policies.base import Candidates, MemoryPolicy, PolicySettings
from streamvlm.retrieval.scorer import Ids
from streamvlm.retrieval.selection import select_blocks

_SEED = 0


class RandomPolicy(MemoryPolicy):
    """Scores blocks by lot: what retrieval is worth is what is lost with this.

    Each session draws the same numbers, one after another, so that the same questions in the same order get the same
    blocks.
    """

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self._rng = np.random.default_rng(_SEED)

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses the best of scores that are drawn."""
        scores = torch.from_numpy(self._rng.uniform(0.5, 1.0, len(candidates.ids))).float()
        return select_blocks(scores, candidates.ids, self.settings.top_k, self.settings.coverage)
