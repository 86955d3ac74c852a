"""Policy ``streamvlm``: what the curvature gate keeps, ranked by the model's own retrieval heads."""

from __future__ import annotations

from streamvlm.policies.base import PolicySettings
from streamvlm.policies.ranked import RankedPolicy
from streamvlm.retrieval.attention_mass import AttentionMassScorer


class StreamVlmPolicy(RankedPolicy):
    """Ranks blocks by the attention that the retrieval heads pay to them."""

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings, AttentionMassScorer(settings.heads, settings.n_query_heads, settings.layout))
