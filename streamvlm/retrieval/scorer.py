"""What an index of blocks is, and a scorer, which ranks the blocks of its index for a question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk.store import DiskStore

Ids = Sequence[int] | NDArray[np.int64]
"""Block ids; an array where there are thousands."""


class BlockIndex(Protocol):
    """Holds of each remembered block what it needs in order to find it again."""

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Indexes a new block by its payload: (L, 2, K, N, D) raw keys and values, any device."""

    def reload(self, store: DiskStore) -> None:
        """Indexes all blocks of a store that was opened again; a block that proves damaged leaves the store."""

    def forget(self, ids: Iterable[int]) -> None:
        """Drops blocks from the index."""


class BlockScorer(BlockIndex, Protocol):
    """Scores the blocks of its index by a question's queries."""

    @property
    def layers(self) -> Sequence[int]:
        """Layers whose raw queries it needs, ascending."""

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Scores how much the question wants each candidate; other blocks have no influence.

        Args:
            queries: For each of ``layers``, the question's raw queries (H, Q, D), any float dtype and device.
            ids: The candidates, each once.

        Returns:
            (len(ids),) float32; larger is wanted more.

        Raises:
            KeyError: If a candidate is not in the index.
        """
