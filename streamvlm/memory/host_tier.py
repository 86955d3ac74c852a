"""The host tier: payloads in RAM within a byte budget, in the order of their last use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from streamvlm.memory.block import whole_pages
from streamvlm.memory.host_arena import Extent, SlabArena


class _Held(NamedTuple):
    """A block's bytes in the arena, and the payload (L, 2, K, N, D) that lies there, in place."""

    extent: Extent
    payload: Tensor


class HostTier:
    """Payloads by block id, the least recently appended or fetched first.

    Args:
        budget_bytes: Of RAM, in whole pages.
        pinned: Whether to page-lock the RAM for transfers to and from a GPU.

    Attributes:
        arena: Hands out the bytes.
    """

    def __init__(self, budget_bytes: int, *, pinned: bool) -> None:
        self.arena = SlabArena(budget_bytes, pinned=pinned)
        self._held: OrderedDict[int, _Held] = OrderedDict()

    def __contains__(self, block_id: object) -> bool:
        return block_id in self._held

    def get(self, block_id: int) -> Tensor:
        """Returns a block's payload in place, now the last one used; its bytes are reused once the block is dropped."""
        self._held.move_to_end(block_id)
        return self._held[block_id].payload

    def put(self, block_id: int, payload: Tensor) -> bool:
        """Copies a payload (L, 2, K, N, D) in; False if there is no hole large enough."""
        extent = self.arena.alloc(payload.nbytes)
        if extent is None:
            return False
        self.hold(block_id, extent, payload.shape, payload.dtype).copy_(payload)
        return True

    def hold(self, block_id: int, extent: Extent, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
        """Takes bytes of the arena for a block's payload of this shape, and returns that in place."""
        shape = torch.Size(shape)
        payload = self.arena.view(extent)[: shape.numel() * dtype.itemsize].view(dtype).view(shape)
        self._held[block_id] = _Held(extent, payload)
        return payload

    def drop(self, block_id: int) -> None:
        """Frees the bytes of a block, if it is here."""
        held = self._held.pop(block_id, None)
        if held is not None:
            self.arena.free(held.extent)

    def oldest(self, before: int, but: Collection[int]) -> int | None:
        """Returns the least recently used block with an id below ``before`` and not in ``but``, if there is one."""
        return next((block_id for block_id in self._held if block_id < before and block_id not in but), None)

    def needed_bytes(self, ids: Iterable[int], n_bytes: int) -> int:
        """Returns the bytes that a payload of ``n_bytes`` takes in whole pages, beside those of these blocks."""
        return whole_pages(n_bytes) + sum(self._held[i].extent.n_bytes for i in ids if i in self._held)

    def pack(self) -> None:
        """Moves all payloads together, so that the holes between them become one; nobody may be reading them."""
        moved = [(block_id, payload.clone()) for block_id, (_, payload) in self._held.items()]
        for block_id, _ in moved:
            self.drop(block_id)
        for block_id, payload in moved:
            is_in = self.put(block_id, payload)
            assert is_in, f"{payload.nbytes} bytes of block {block_id} no longer fit"
