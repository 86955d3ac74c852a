"""The scorer that runs: how much attention the retrieval heads' question queries pay to a block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.retrieval.key_index import KeyIndex
from streamvlm.retrieval.scorer import Ids


class AttentionMassScorer:
    """Exact softmax attention over the raw keys of all candidate tokens, with no positions in it.

    A block's score is the largest share of attention that any retrieval head gives it from the question's last
    token, the only one that has read it all. Without positions, identical content scores identically whenever
    it was seen.

    Args:
        heads: The retrieval heads, at least one.
        n_query_heads: Query heads of a layer; groups of them share a KV head.
        layout: Of the blocks' payloads; the index has its dtype.
        device: Where the index is kept and scanned.
    """

    def __init__(
        self,
        heads: Iterable[RetrievalHead],
        n_query_heads: int,
        layout: BlockLayout,
        device: torch.device | str = "cpu",
    ) -> None:
        group = n_query_heads // layout.n_kv_heads
        self._source_of = {head: (head.layer, head.head // group) for head in sorted(set(heads))}
        outside = [h for h in self._source_of if h.layer >= layout.n_layers or h.head >= n_query_heads]
        if outside or not self._source_of:
            raise ValueError(f"retrieval heads missing or outside the model: {outside}")
        self._sources = sorted(set(self._source_of.values()))
        self._scale = 1 / math.sqrt(layout.head_dim)
        self._index = KeyIndex(len(self._sources), layout.head_dim, layout.dtype, device)

    @property
    def layers(self) -> Sequence[int]:
        """Layers that hold a retrieval head, ascending."""
        return sorted({head.layer for head in self._source_of})

    @property
    def n_bytes(self) -> int:
        """Bytes its index takes."""
        return self._index.n_bytes

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Indexes the retrieval heads' keys of a payload (L, 2, K, N, D)."""
        self.add_rows(block.id, self.rows(payload))

    def rows(self, payload: Tensor) -> Tensor:
        """Returns what the index holds of a payload: its retrieval heads' keys (N, sources, D)."""
        return torch.stack([payload[layer, 0, kv_head] for layer, kv_head in self._sources], dim=1)

    def add_rows(self, block_id: int, rows: Tensor) -> None:
        """Indexes a block by the rows that were once made of its payload."""
        self._index.add(block_id, rows.transpose(0, 1))

    def forget(self, ids: Iterable[int]) -> None:
        """Drops blocks from the index."""
        self._index.forget(ids)

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Returns the attention mass (len(ids),) float32 in [0, 1]; see ``BlockScorer.score``."""
        if len(ids) == 0:
            return torch.zeros(0)
        rows = self._index.rows_of(ids)
        masses = []
        for head, source in self._source_of.items():
            query = queries[head.layer][head.head, -1] * self._scale
            logits = rows.dot(self._sources.index(source), query)
            # The softmax in place: fresh memory for it costs as much time as the products.
            weights = logits.sub_(logits.amax()).exp_()
            masses.append(rows.sum(weights) / weights.sum())
        return torch.stack(masses).amax(dim=0)
