"""The baseline scorer: mean query · mean key, summed over layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.disk.store import DiskStore
from streamvlm.retrieval.key_index import KeyIndex
from streamvlm.retrieval.scorer import Ids


class MeanKeyScorer:
    """A block's representative is its mean key: averaging heads and tokens drowns the heads that matter.

    In KV-head space: averaging the query heads of a group, instead of repeating their key, changes the score
    by a constant factor only and takes a group's worth less memory.

    Args:
        n_query_heads: Query heads of a layer.
        layout: Of the blocks' payloads.
        device: Where the representatives are kept and scanned.

    Source: ReKV, arXiv:2503.00540.
    """

    def __init__(self, n_query_heads: int, layout: BlockLayout, device: torch.device | str = "cpu") -> None:
        self.layers: Sequence[int] = range(layout.n_layers)
        self._query_shape = (layout.n_kv_heads, n_query_heads // layout.n_kv_heads, -1, layout.head_dim)
        width = layout.n_layers * layout.n_kv_heads * layout.head_dim
        self._index = KeyIndex(1, width, torch.float32, device)

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Indexes the mean key of a payload (L, 2, K, N, D)."""
        self._index.add(block.id, payload[:, 0].float().mean(dim=2).reshape(1, 1, -1))

    def reload(self, store: DiskStore) -> None:
        """Indexes the blocks on disk by their payloads, each of which is read for it."""
        for block, payload in store.payloads():
            self.add(block, payload)

    def forget(self, ids: Iterable[int]) -> None:
        """Drops blocks from the index."""
        self._index.forget(ids)

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Returns dot products (len(ids),) float32, of any sign; see ``BlockScorer.score``."""
        if len(ids) == 0:
            return torch.zeros(0)
        rows = self._index.rows_of(ids)
        means = [queries[layer].float().reshape(self._query_shape).mean(dim=(1, 2)) for layer in self.layers]
        return rows.sum(rows.dot(0, torch.stack(means).flatten()))
