"""The scorer that runs: how much attention the retrieval heads' question queries pay to a block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.disk.store import DiskStore
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.retrieval.key_index import KeyIndex
from streamvlm.retrieval.scorer import Ids


class IndexRows:
    """Makes a block's index rows: the keys that the retrieval heads look at, token by token.

    They lie on disk beside the payload, so that the index of a stream is there again without its payloads.

    Args:
        heads: The retrieval heads, at least one.
        n_query_heads: Query heads of a layer; groups of them share a KV head.
        layout: Of the blocks' payloads.

    Attributes:
        source_of: For each head, ascending, its source: the (layer, KV head) whose keys it looks at.
        sources: All sources, ascending: the columns of the rows.
    """

    def __init__(self, heads: Iterable[RetrievalHead], n_query_heads: int, layout: BlockLayout) -> None:
        group = n_query_heads // layout.n_kv_heads
        self.source_of = {head: (head.layer, head.head // group) for head in sorted(set(heads))}
        outside = [h for h in self.source_of if h.layer >= layout.n_layers or h.head >= n_query_heads]
        if outside or not self.source_of:
            raise ValueError(f"retrieval heads missing or outside the model: {outside}")
        self.sources = sorted(set(self.source_of.values()))

    def of(self, payload: Tensor) -> Tensor:
        """Returns the rows (N, sources, D) of a payload (L, 2, K, N, D)."""
        return torch.stack([payload[layer, 0, kv_head] for layer, kv_head in self.sources], dim=1)


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

    Attributes:
        rows: Makes what the index holds of a payload.
    """

    def __init__(
        self,
        heads: Iterable[RetrievalHead],
        n_query_heads: int,
        layout: BlockLayout,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows = IndexRows(heads, n_query_heads, layout)
        self._scale = 1 / math.sqrt(layout.head_dim)
        self._index = KeyIndex(len(self.rows.sources), layout.head_dim, layout.dtype, device)

    @property
    def layers(self) -> Sequence[int]:
        """Layers that hold a retrieval head, ascending."""
        return sorted({head.layer for head in self.rows.source_of})

    def add(self, block: KVBlock, payload: Tensor) -> None:
        """Indexes the retrieval heads' keys of a payload (L, 2, K, N, D)."""
        self.add_rows(block.id, self.rows.of(payload))

    def add_rows(self, block_id: int, rows: Tensor) -> None:
        """Indexes a block by the rows (N, sources, D) that were once made of its payload."""
        self._index.add(block_id, rows.transpose(0, 1))

    def reload(self, store: DiskStore) -> None:
        """Indexes the rows that lie on disk beside the payloads."""
        for block, rows in store.rows():
            self.add_rows(block.id, rows)

    def forget(self, ids: Iterable[int]) -> None:
        """Drops blocks from the index."""
        self._index.forget(ids)

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Returns the attention mass (len(ids),) float32 in [0, 1]; see ``BlockScorer.score``."""
        if len(ids) == 0:
            return torch.zeros(0)
        rows = self._index.rows_of(ids)
        masses = []
        for head, source in self.rows.source_of.items():
            query = queries[head.layer][head.head, -1] * self._scale
            logits = rows.dot(self.rows.sources.index(source), query)
            # The softmax in place: fresh memory for it costs as much time as the products.
            weights = logits.sub_(logits.amax()).exp_()
            masses.append(rows.sum(weights) / weights.sum())
        return torch.stack(masses).amax(dim=0)
