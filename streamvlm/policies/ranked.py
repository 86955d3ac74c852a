"""What policies share that rank blocks by a score of the question's queries."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from streamvlm.policies.base import Candidates, MemoryPolicy, PolicySettings
from streamvlm.retrieval.scorer import BlockScorer, Ids
from streamvlm.retrieval.selection import select_blocks


class RankedPolicy(MemoryPolicy):
    """Gives a question as few blocks as carry enough of the score, at most ``top_k``.

    The window takes part, so that a question about now, which the window answers, gets few blocks besides.

    Args:
        settings: Of the session.
        scorer: Scores the blocks; its index is the policy's.
    """

    def __init__(self, settings: PolicySettings, scorer: BlockScorer) -> None:
        super().__init__(settings)
        self.index, self.layers, self._scorer = scorer, scorer.layers, scorer

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses the best by score; see ``select_blocks``."""
        scores = self._scorer.score(queries, candidates.ids)
        return select_blocks(scores, candidates.ids, self.settings.top_k, self.settings.coverage)
