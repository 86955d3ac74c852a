"""Policy ``recent``: a question gets the newest blocks, whatever it asks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from streamvlm.policies.base import Candidates, MemoryPolicy
from streamvlm.retrieval.scorer import Ids


class RecentPolicy(MemoryPolicy):
    """Chooses the ``top_k`` newest blocks that are older than the window, so that the window is that much longer."""

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses by age alone."""
        return candidates.ids[: candidates.n_older][-self.settings.top_k :]
