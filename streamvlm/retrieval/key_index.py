"""The growing table of raw keys that the scorers scan.

A row belongs to a block, and the rows of forgotten blocks serve the next ones, so the table is no larger than
the most ever remembered at once. It grows by chunks: nothing moves when a block comes or goes, and a chunk
widened to float32 for its product stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from streamvlm.retrieval.scorer import Ids

CHUNK_BYTES = 2 << 20
NOBODY = 0


class _Chunk:
    """Some rows of every source, the slot of the block that owns each row, and the rows that nobody owns."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys
        self.owners = torch.full((keys.shape[1],), NOBODY, device=keys.device)
        self.free = list(reversed(range(keys.shape[1])))

    def take(self, n_rows: int) -> Tensor:
        # Ascending, so that a block's rows are summed in the same order wherever they lie.
        rows = sorted(self.free.pop() for _ in range(n_rows))
        return torch.tensor(rows, device=self.owners.device)

    def give_back(self, rows: Tensor) -> None:
        self.owners[rows] = NOBODY
        self.free.extend(rows.tolist())


class KeyIndex:
    """Rows of keys from one or several sources (heads), each row owned by a block.

    Args:
        n_sources: Tables that share their rows' owners.
        width: Entries of a key.
        dtype: Of the stored keys; products are float32.
        device: Where the index lives and is scanned.
    """

    def __init__(self, n_sources: int, width: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self._empty = torch.empty(n_sources, 0, width, dtype=dtype, device=device)
        self._chunk_rows = max(1, CHUNK_BYTES // (width * torch.float32.itemsize))
        self._chunks: list[_Chunk] = []
        self._homes: dict[int, tuple[int, _Chunk, Tensor]] = {}
        self._spare_slots: list[int] = []
        self._slot_of = np.zeros(0, np.int64)  # by block id, so that a scan asks for no block singly

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows, free ones included."""
        return sum(chunk.keys.nbytes + chunk.owners.nbytes for chunk in self._chunks)

    def add(self, block_id: int, keys: Tensor) -> None:
        """Stores a block's keys, (sources, rows, width)."""
        chunk = self._chunk_with(keys.shape[1])
        rows = chunk.take(keys.shape[1])
        slot = self._spare_slots.pop() if self._spare_slots else len(self._homes) + 1
        chunk.keys[:, rows] = keys.to(chunk.keys)
        chunk.owners[rows] = slot
        self._homes[block_id] = slot, chunk, rows
        if block_id >= len(self._slot_of):
            self._slot_of = np.pad(self._slot_of, (0, max(1024, block_id + 1)))
        self._slot_of[block_id] = slot

    def forget(self, ids: Iterable[int]) -> None:
        """Frees the rows of these blocks."""
        for block_id in ids:
            slot, chunk, rows = self._homes.pop(block_id)
            self._slot_of[block_id] = NOBODY
            chunk.give_back(rows)
            self._spare_slots.append(slot)

    def locate(self, ids: Ids) -> Tensor:
        """For every row the place in ``ids`` of the block that owns it, ``len(ids)`` if that is none of them.

        Returns:
            (rows,) int64.

        Raises:
            KeyError: If a block is not in the index.
        """
        wanted = np.asarray(ids, np.int64)
        if wanted.max() >= len(self._slot_of) or not (found := self._slot_of[wanted]).all():
            raise KeyError(f"blocks {[i for i in ids if i not in self._homes]} are not in the index")
        slots = torch.from_numpy(found).to(self._empty.device)
        n_slots = len(self._homes) + len(self._spare_slots)
        places = torch.full((n_slots + 1,), len(ids), device=self._empty.device)
        places[slots] = torch.arange(len(ids), device=self._empty.device)
        return places[torch.cat([chunk.owners for chunk in self._chunks])]

    def dot(self, source: int, queries: Tensor, bias: Tensor) -> Tensor:
        """Products of queries (Q, width) with all rows of a source, plus a bias (rows,): (Q, rows) fp32."""
        products = torch.empty(len(queries), len(bias), device=bias.device)
        queries = queries.detach().to(bias)
        start = 0
        for chunk in self._chunks:
            part = slice(start, start + len(chunk.owners))
            torch.addmm(bias[part], queries, chunk.keys[source].float().T, out=products[:, part])
            start = part.stop
        return products

    def _chunk_with(self, n_rows: int) -> _Chunk:
        for chunk in self._chunks:
            if len(chunk.free) >= n_rows:
                return chunk
        n_sources, _, width = self._empty.shape
        # Zeros, not empty: free rows take part in the product, and no mask takes a stray NaN out again.
        # Ordinary tensors, also when a model's inference mode is on: they are written to outside it as well.
        with torch.inference_mode(False):
            keys = self._empty.new_zeros(n_sources, max(n_rows, self._chunk_rows), width)
            self._chunks.append(_Chunk(keys))
        return self._chunks[-1]
