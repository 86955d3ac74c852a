"""Policy ``everything``: a question gets all blocks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from streamvlm.policies.base import Candidates, MemoryPolicy
from streamvlm.retrieval.scorer import Ids


class EverythingPolicy(MemoryPolicy):
    """Chooses every block, beyond ``top_k`` too: what an answer costs, and its memory, grow with the stream."""

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses all there are."""
        return candidates.ids
