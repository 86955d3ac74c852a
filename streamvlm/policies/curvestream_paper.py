"""Policy ``curvestream-paper``: CurveStream's gate and its queue of frames, as published."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from streamvlm.gate.gate import CurvatureGate, GateConfig
from streamvlm.policies.base import Candidates, MemoryPolicy, PolicySettings
from streamvlm.retrieval.scorer import Ids

QUEUE_BLOCKS = 20
"""Kept frames that a question gets, the newest ones; all older ones are out of its reach."""


class CurveStreamPaperPolicy(MemoryPolicy):
    """Keeps what M + 0.2 C above mean + 0 and + 1 sigma tells, and gives a question the newest 20 kept frames.

    No noise floor, no drift rule and no coverage rule. The session's half-life stands for the decay of mean and sigma,
    which is not published; ``top_k`` plays no part. What is kept is pooled and prefilled as with every policy, where
    CurveStream makes a picture smaller and encodes the queue anew for each question.

    Source: CurveStream, arXiv:2603.19571.
    """

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self.gate = CurvatureGate(
            GateConfig(
                "paper", 0.2, k_fuzzy=0.0, k_clear=1.0, half_life_s=settings.gate.half_life_s, max_gap_s=math.inf
            )
        )

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses what is in the queue; the window's blocks are part of it."""
        return candidates.ids[-QUEUE_BLOCKS:]
