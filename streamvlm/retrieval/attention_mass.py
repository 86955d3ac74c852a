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
        """What the index holds of a payload: its retrieval heads' keys (N, sources, D)."""
        return torch.stack([payload[layer, 0, kv_head] for layer, kv_head in self._sources], dim=1)

    def add_rows(self, block_id: int, rows: Tensor) -> None:
        """Indexes a block by the rows that were once made of its payload."""
        self._index.add(block_id, rows.transpose(0, 1))

    def forget(self, ids: Iterable[int]) -> None:
        """Drops blocks from the index."""
        self._index.forget(ids)

    def score(self, queries: Mapping[int, Tensor], ids: Ids) -> Tensor:
        """Attention mass (len(ids),) float32 in [0, 1]; see ``BlockScorer.score``."""
        if len(ids) == 0:
            return torch.zeros(0)
        places = self._index.locate(ids)
        bias = torch.zeros(len(places), device=places.device).masked_fill_(places == len(ids), -math.inf)
        best = torch.zeros(len(ids), device=places.device)
        for head, source in self._source_of.items():
            query = queries[head.layer][head.head, -1:] * self._scale
            logits = self._index.dot(self._sources.index(source), query, bias)
            # The softmax in place: fresh memory for it costs as much time as the products.
            weights = logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
            mass = weights[0] / weights.sum()
            best = torch.maximum(best, sum_by_place(mass, places, len(ids)))
        return best


def sum_by_place(values: Tensor, places: Tensor, n_places: int) -> Tensor:
    """Sums a row's value (rows,) into its place, leaving out places past the last: (n_places,) float32.

    In float64, because CUDA adds in no fixed order: rounded to float32, the order no longer shows.
    """
    sums = torch.zeros(n_places + 1, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, places, values.double())[:-1].float()
