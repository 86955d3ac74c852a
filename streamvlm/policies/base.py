"""The seam for what is kept of a stream and what a question gets of it.

A policy makes three decisions: its gate judges every frame, its index holds what it needs of every block, and it
chooses the blocks that a question gets. It runs no model and moves no payload.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.gate.gate import CurvatureGate, Decision, GateConfig
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.block_table import Snapshot
from streamvlm.memory.disk.store import DiskStore
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.retrieval.scorer import BlockIndex, Ids


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What a policy is made for: the settings of a session, and facts of its model.

    Attributes:
        gate: Settings of the curvature gate, with the model's noise floor.
        top_k: Most blocks that a question gets besides the window.
        coverage: Share of the score of all blocks that is enough.
        heads: The model's retrieval heads.
        n_query_heads: Query heads of a layer.
        layout: Of the blocks' payloads.
    """

    gate: GateConfig
    top_k: int
    coverage: float
    heads: Sequence[RetrievalHead]
    n_query_heads: int
    layout: BlockLayout


@dataclass(frozen=True, slots=True)
class Candidates:
    """The blocks that a question may see.

    Attributes:
        blocks: Their entries in the block table, oldest first.
        ids: Their ids, (blocks,) int64.
        n_older: How many are older than the window, at least one; a question attends to the window in any case.
    """

    blocks: Snapshot
    ids: NDArray[np.int64]
    n_older: int


class Gate(Protocol):
    """Judges the frames of one stream."""

    def decide(self, feature: Tensor, time_s: float) -> Decision:
        """Decides on the stream's next frame; see ``CurvatureGate.decide``."""


class NoIndex:
    """The index of a policy that looks at no keys."""

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Holds nothing of a new block."""

    def reload(self, store: DiskStore) -> None:
        """Reads nothing of a store."""

    def forget(self, ids: Iterable[int]) -> None:
        """Has nothing to drop."""


class MemoryPolicy(ABC):
    """Decides on what is kept of one stream and on what a question gets of it.

    Unless a policy sets them otherwise, its gate is the curvature gate and it looks at no keys.

    Args:
        settings: Of the session that it is made for.

    Attributes:
        settings: The same.
        gate: Judges the frames.
        index: Gets every block that is remembered, reloaded or forgotten.
        layers: Layers whose raw queries ``choose`` needs, ascending; without any, the question is not probed.
    """

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self.gate: Gate = CurvatureGate(settings.gate)
        self.index: BlockIndex = NoIndex()
        self.layers: Sequence[int] = ()

    @abstractmethod
    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> Ids:
        """Chooses the blocks that a question gets.

        Args:
            candidates: The blocks that it may see.
            queries: For each of ``layers``, the question's raw queries (H, Q, D).

        Returns:
            Ids of candidates, oldest first; those in the window change nothing.
        """
