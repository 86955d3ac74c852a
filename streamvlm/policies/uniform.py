"""Policy ``uniform``: a question gets blocks that are evenly spread over the stream, whatever it asks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from streamvlm.policies.base import Candidates, MemoryPolicy
from streamvlm.retrieval.scorer import Ids


class UniformPolicy(MemoryPolicy):
    """Cuts the stream before the window into ``top_k`` spans of equal time and takes the block of each span's middle.

    One block may stand for several middles, so that a short stream gives fewer than ``top_k``.
    """

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses by time alone."""
        older = candidates.blocks[: candidates.n_older]
        starts_s = np.array([block.start_s for block in older])
        edges_s = np.linspace(starts_s[0], older[-1].end_s, self.settings.top_k + 1)
        middles_s = (edges_s[:-1] + edges_s[1:]) / 2
        places = np.searchsorted(starts_s, middles_s, side="right") - 1  # the block that stands for that moment
        return candidates.ids[np.unique(places)]
