"""A stream's blocks over its tiers, under hard byte budgets.

Host is the home of every block, device a cache of it. A block that leaves its last tier is forgotten: its
line goes too, and the caller is told. One thread owns a memory; what it hands out, snapshots and fetched
payloads, stays as it is whatever happens to the memory later.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor

from streamvlm.errors import MemoryBudgetError
from streamvlm.frame import Fidelity
from streamvlm.memory.arena import Extent, SlabArena, slot_bytes
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.device_cache import DeviceCache

Snapshot = tuple[KVBlock, ...]
"""The lines of the blocks that a question may see, oldest first."""


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What a memory holds: blocks by fidelity, bytes by tier, and how many blocks it has forgotten so far."""

    n_blocks: int
    n_clear: int
    n_fuzzy: int
    n_forgotten: int
    host_bytes: int
    host_budget_bytes: int
    device_bytes: int
    device_budget_bytes: int


class BlockMemory:
    """Keeps blocks, evicts the least recently appended or fetched ones, and never those of the window.

    On a CPU the device tier stays empty, whatever its budget: a second copy in the same RAM saves nothing.

    Args:
        layout: Shape and dtype of the payloads.
        device: Where fetched payloads are wanted.
        device_budget_bytes: Bytes of payload to cache on the device.
        host_budget_bytes: Bytes of host RAM for payloads, in slots of whole pages.
        on_forget: Told the ids of the blocks that an append has pushed out of the last tier, each id once.
    """

    def __init__(
        self,
        layout: BlockLayout,
        *,
        device: torch.device | str,
        device_budget_bytes: int,
        host_budget_bytes: int,
        on_forget: Callable[[list[int]], None] | None = None,
    ) -> None:
        self._layout = layout
        self._device = torch.device(device)
        self._on_forget = on_forget
        self._arena = SlabArena(host_budget_bytes, pinned=self._device.type == "cuda")
        self._cache = DeviceCache(0 if self._device.type == "cpu" else device_budget_bytes)
        self._lines: dict[int, KVBlock] = {}
        self._slots: OrderedDict[int, Extent] = OrderedDict()  # least recently used first
        self._next_id = 0
        self._window_start = sys.maxsize

    def append(self, payload: Tensor, *, start_s: float, fidelity: Fidelity, score: float) -> KVBlock:
        """Copies a new block in, forgetting old ones where their bytes are needed.

        Args:
            payload: (L, 2, K, N, D) raw keys and values in the layout's dtype, any device.
            start_s: Stream time of its frame.
            fidelity: ``clear`` or ``fuzzy``.
            score: The gate's score of its frame.

        Raises:
            ValueError: If the payload does not fit the layout.
            MemoryBudgetError: If it does not fit beside the window; nothing has been forgotten then.
        """
        n_tokens = payload.shape[3] if payload.dim() == 5 else 0
        fits = payload.dtype == self._layout.dtype and payload.shape == self._layout.shape(n_tokens)
        if n_tokens == 0 or not fits:
            raise ValueError(f"payload {tuple(payload.shape)} {payload.dtype} does not fit {self._layout}")
        slot = self._make_room(payload.nbytes)
        block = KVBlock(self._next_id, start_s, start_s, fidelity, score, n_tokens)
        self._next_id += 1
        self._lines[block.id], self._slots[block.id] = block, slot
        self._payload(block.id).copy_(payload)
        return block

    def extend(self, end_s: float) -> None:
        """Lets the newest block stand for the time up to ``end_s`` as well.

        Raises:
            ValueError: If there is no block yet.
        """
        if not self._lines:
            raise ValueError("no block to extend")
        newest = next(reversed(self._lines))
        self._lines[newest] = replace(self._lines[newest], end_s=end_s)

    def pin_from(self, block_id: int) -> None:
        """Makes this block the window's first: it and all newer ones, also those to come, are not evicted."""
        self._window_start = block_id

    def snapshot(self, until_s: float | None = None) -> Snapshot:
        """The lines of the blocks whose frame is no later than ``until_s``, oldest first."""
        return tuple(line for line in self._lines.values() if until_s is None or line.start_s <= until_s)

    def fetch(self, ids: Iterable[int]) -> list[Tensor]:
        """Payloads (L, 2, K, N, D) on the device, in the order asked for; to be read, not written.

        They stay valid and unchanged when their blocks are evicted.

        Raises:
            KeyError: If a block was forgotten or never was; ``id in memory`` tells beforehand.
        """
        return [self._fetch(block_id) for block_id in ids]

    def __contains__(self, block_id: object) -> bool:
        """Whether the block is still remembered."""
        return block_id in self._lines

    def stats(self) -> MemoryStats:
        """Counts and bytes as of now."""
        n_clear = sum(line.fidelity is Fidelity.CLEAR for line in self._lines.values())
        return MemoryStats(
            n_blocks=len(self._lines),
            n_clear=n_clear,
            n_fuzzy=len(self._lines) - n_clear,
            n_forgotten=self._next_id - len(self._lines),
            host_bytes=self._arena.used_bytes,
            host_budget_bytes=self._arena.budget_bytes,
            device_bytes=self._cache.used_bytes,
            device_budget_bytes=self._cache.budget_bytes,
        )

    def _payload(self, block_id: int) -> Tensor:
        shape = self._layout.shape(self._lines[block_id].n_tokens)
        n_bytes = self._lines[block_id].n_tokens * self._layout.token_bytes
        return self._arena.view(self._slots[block_id])[:n_bytes].view(self._layout.dtype).view(shape)

    def _fetch(self, block_id: int) -> Tensor:
        self._slots.move_to_end(block_id)
        payload = self._cache.get(block_id)
        if payload is None:
            payload = self._payload(block_id).to(self._device, copy=True)
            self._cache.put(block_id, payload)
        return payload

    def _make_room(self, n_bytes: int) -> Extent:
        window = list(takewhile(lambda block_id: block_id >= self._window_start, reversed(self._lines)))
        needed_bytes = sum(self._slots[block_id].n_bytes for block_id in window) + slot_bytes(n_bytes)
        if needed_bytes > self._arena.budget_bytes:
            raise MemoryBudgetError(
                f"the window's {len(window)} blocks and the new one need {needed_bytes} bytes of host memory "
                f"but the budget is {self._arena.budget_bytes}: raise it or shorten the window"
            )
        forgotten: list[int] = []
        while (slot := self._arena.alloc(n_bytes)) is None:
            oldest = next((block_id for block_id in self._slots if block_id < self._window_start), None)
            if oldest is None:
                self._defragment()
            else:
                self._forget(oldest)
                forgotten.append(oldest)
        if forgotten and self._on_forget is not None:
            self._on_forget(forgotten)
        return slot

    def _forget(self, block_id: int) -> None:
        del self._lines[block_id]
        self._cache.drop(block_id)
        self._arena.free(self._slots.pop(block_id))

    def _defragment(self) -> None:
        # Only window blocks are left by now: little to move, and the holes between them add up to enough.
        contents = {block_id: self._arena.view(slot).clone() for block_id, slot in self._slots.items()}
        for slot in self._slots.values():
            self._arena.free(slot)
        for block_id, content in contents.items():
            packed = self._arena.alloc(content.nbytes)
            assert packed is not None, f"{content.nbytes} bytes of block {block_id} no longer fit"
            self._arena.view(packed).copy_(content)
            self._slots[block_id] = packed
