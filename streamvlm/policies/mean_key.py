"""Policy ``mean-key``: ReKV's score of a block, with all else as in ``streamvlm``."""

from __future__ import annotations

from streamvlm.policies.base import PolicySettings
from streamvlm.policies.ranked import RankedPolicy
from streamvlm.retrieval.mean_key import MeanKeyScorer


class MeanKeyPolicy(RankedPolicy):
    """Ranks blocks by mean query times mean key.

    Not all of ReKV, which keeps every frame and lets each layer choose 64 blocks of its own: only the score differs
    from ``streamvlm``, so that the difference in answers is the score's.

    Source: ReKV, arXiv:2503.00540.
    """

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings, MeanKeyScorer(settings.n_query_heads, settings.layout))
