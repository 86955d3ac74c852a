"""The growing table of raw keys that the scorers scan.

A row belongs to a block, and the rows of forgotten blocks serve the next ones, so the table is no larger than
the most ever remembered at once. It grows by chunks: nothing moves when a block comes or goes, and a chunk
widened to float32 for its product stays in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from streamvlm.retrieval.scorer import Ids

CHUNK_BYTES = 2 << 20
NOBODY = 0
_STRIPS = 4
"""A chunk is scanned as a batch of so many: one long product with a single query stays on one core."""


class _Chunk:
    """Some rows of every source, the number of the block that owns each row, and the rows that nobody owns."""

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


class Rows:
    """The rows of some blocks, among all of an index.

    Args:
        chunks: All there are.
        numbers: Of the blocks, (blocks,) int64.
        n_numbers: How many there are, nobody's included.
    """

    def __init__(self, chunks: Sequence[_Chunk], numbers: Tensor, n_numbers: int) -> None:
        self._chunks, self._numbers, self._n_numbers = chunks, numbers, n_numbers
        self._owners = torch.cat([chunk.owners for chunk in chunks])
        self._bias = torch.full((n_numbers,), -math.inf, device=numbers.device).index_fill_(0, numbers, 0.0)[
            self._owners
        ]

    def dot(self, source: int, query: Tensor) -> Tensor:
        """Returns products of a query (width,) with a source's rows: (rows,) float32, -inf where others own the row."""
        products = torch.empty_like(self._bias)
        query = query.detach().to(products).expand(_STRIPS, 1, -1)
        start = 0
        for chunk in self._chunks:
            keys = chunk.keys[source].float()
            part = slice(start, start + len(keys))
            bias, out = (whole[part].view(_STRIPS, 1, -1) for whole in (self._bias, products))
            torch.baddbmm(bias, query, keys.view(_STRIPS, -1, keys.shape[1]).mT, out=out)
            start = part.stop
        return products

    def sum(self, values: Tensor) -> Tensor:
        """Sums a value a row (rows,) by block: (blocks,) float32.

        In float64, because CUDA adds in no fixed order: rounded to float32, the order no longer shows.
        """
        sums = torch.zeros(self._n_numbers, dtype=torch.float64, device=values.device)
        return sums.index_add_(0, self._owners, values.double())[self._numbers].float()


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
        self._held: dict[int, tuple[int, _Chunk, Tensor]] = {}
        self._spare_numbers: list[int] = []
        self._number_of = np.zeros(0, np.int64)  # by block id, so that a scan asks for no block singly

    def add(self, block_id: int, keys: Tensor) -> None:
        """Stores a block's keys, (sources, rows, width)."""
        chunk = self._chunk_with(keys.shape[1])
        rows = chunk.take(keys.shape[1])
        number = self._spare_numbers.pop() if self._spare_numbers else len(self._held) + 1
        chunk.keys[:, rows] = keys.to(chunk.keys)
        chunk.owners[rows] = number
        self._held[block_id] = number, chunk, rows
        if block_id >= len(self._number_of):
            self._number_of = np.pad(self._number_of, (0, max(1024, block_id + 1)))
        self._number_of[block_id] = number

    def forget(self, ids: Iterable[int]) -> None:
        """Frees the rows of these blocks."""
        for block_id in ids:
            number, chunk, rows = self._held.pop(block_id)
            self._number_of[block_id] = NOBODY
            chunk.give_back(rows)
            self._spare_numbers.append(number)

    def rows_of(self, ids: Ids) -> Rows:
        """Returns the rows of these blocks, to be scanned before the next block comes or goes.

        Raises:
            KeyError: If a block is not in the index.
        """
        wanted = np.asarray(ids, np.int64)
        if wanted.max() >= len(self._number_of) or not (found := self._number_of[wanted]).all():
            raise KeyError(f"blocks {[i for i in ids if i not in self._held]} are not in the index")
        numbers = torch.from_numpy(found).to(self._empty.device)
        return Rows(self._chunks, numbers, 1 + len(self._held) + len(self._spare_numbers))

    def _chunk_with(self, n_rows: int) -> _Chunk:
        for chunk in self._chunks:
            if len(chunk.free) >= n_rows:
                return chunk
        n_sources, _, width = self._empty.shape
        # Zeros, not empty: free rows take part in the product, and no mask takes a stray NaN out again.
        # Ordinary tensors, also when a model's inference mode is on: they are written to outside it as well.
        with torch.inference_mode(False):
            n_rows = -(-max(n_rows, self._chunk_rows) // _STRIPS) * _STRIPS
            keys = self._empty.new_zeros(n_sources, n_rows, width)
            self._chunks.append(_Chunk(keys))
        return self._chunks[-1]
