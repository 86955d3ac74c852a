"""The block table: an entry for every block that a stream remembers, wherever its payload lies."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock, Positions

Snapshot = tuple[KVBlock, ...]
"""Entries of the blocks that a question may see, oldest first."""


class BlockTable:
    """Entries by block id, oldest first; they are replaced and never changed, so that what was handed out stays.

    Args:
        blocks: Entries to begin with, oldest first.
        next_id: Id of the next block.

    Attributes:
        next_id: Id of the next block; all ids below it have been given out.
        n_clear: Blocks that are clear.
        window_start: Id of the window's first block: it and all newer ones are in the window.
    """

    def __init__(self, blocks: Iterable[KVBlock] = (), next_id: int = 0) -> None:
        self.next_id, self.n_clear, self.window_start = next_id, 0, sys.maxsize
        self._entries: dict[int, KVBlock] = {}
        self._ids: NDArray[np.int64] | None = None  # of all entries, until one comes or goes
        for block in blocks:
            self.put(block)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, block_id: object) -> bool:
        """Whether the block is still remembered."""
        return block_id in self._entries

    def __getitem__(self, block_id: int) -> KVBlock:
        """A remembered block's entry; KeyError if it is forgotten."""
        return self._entries[block_id]

    def add(
        self, start_s: float, fidelity: Fidelity, score: float, n_tokens: int, positions: Positions | None
    ) -> KVBlock:
        """Adds a new block's entry."""
        block = KVBlock(self.next_id, start_s, start_s, fidelity, score, n_tokens, positions)
        self.next_id += 1
        self.put(block)
        return block

    def put(self, block: KVBlock) -> None:
        """Adds an entry, or puts it in place of the block's old one."""
        old = self._entries.get(block.id)
        self.n_clear += (block.fidelity is Fidelity.CLEAR) - (old is not None and old.fidelity is Fidelity.CLEAR)
        self._entries[block.id] = block
        self._ids = None if old is None else self._ids

    def extend(self, end_s: float) -> int:
        """Lets the newest block stand for the time up to ``end_s`` as well, and returns its id.

        Raises:
            ValueError: If there is no block yet.
        """
        if not self._entries:
            raise ValueError("no block to extend")
        newest = next(reversed(self._entries))
        self._entries[newest] = replace(self._entries[newest], end_s=end_s)
        return newest

    def remove(self, block_id: int) -> None:
        """Removes an entry; KeyError if there is none."""
        self.n_clear -= self._entries.pop(block_id).fidelity is Fidelity.CLEAR
        self._ids = None

    def snapshot(self, until_s: float | None = None) -> Snapshot:
        """Returns the blocks whose frame is no later than ``until_s``, oldest first."""
        if until_s is None or not self._entries or next(reversed(self._entries.values())).start_s <= until_s:
            return tuple(self._entries.values())
        return tuple(block for block in self._entries.values() if block.start_s <= until_s)

    def ids(self) -> NDArray[np.int64]:
        """Returns the ids of all blocks, oldest first: those of ``snapshot()``."""
        if self._ids is None:
            self._ids = np.fromiter(self._entries, np.int64, len(self._entries))
            self._ids.setflags(write=False)
        return self._ids

    def window(self) -> list[int]:
        """Returns the ids of the window's blocks, newest first."""
        return list(takewhile(lambda block_id: block_id >= self.window_start, reversed(self._entries)))
