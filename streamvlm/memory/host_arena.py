"""One preallocated slab of host bytes, cut into exact extents: never one allocation a block.

An allocation per block is a memory mapping per block, and a long stream runs out of those within the hour.
Extents, rather than size classes, because a stream may be all fuzzy for hours and then turn clear: bytes that
one class has freed must serve the other at once.
"""

from __future__ import annotations

import weakref
from bisect import bisect
from typing import NamedTuple

import torch
from torch import Tensor

from streamvlm.memory.block import PAGE_BYTES, whole_pages


class Extent(NamedTuple):
    """Bytes ``start`` up to, not including, ``stop`` of the arena; both multiples of 4096."""

    start: int
    stop: int

    @property
    def n_bytes(self) -> int:
        """Length of the extent."""
        return self.stop - self.start


class SlabArena:
    """First-fit allocator over one uint8 buffer; freed neighbours melt together.

    Bytes never touched cost no RAM, unless the buffer is pinned, as copies to and from a GPU want it.

    Args:
        budget_bytes: Size of the buffer, rounded down to whole pages.
        pinned: Whether to page-lock the buffer for transfers to and from a GPU.
    """

    def __init__(self, budget_bytes: int, *, pinned: bool = False) -> None:
        self.budget_bytes = budget_bytes // PAGE_BYTES * PAGE_BYTES
        self.used_bytes = 0
        with torch.inference_mode(False):  # it outlives any such mode, and is written to outside it as well
            self._buffer = torch.empty(self.budget_bytes, dtype=torch.uint8)
        self._holes = [Extent(0, self.budget_bytes)]
        if pinned:
            _page_lock(self._buffer)

    def alloc(self, n_bytes: int) -> Extent | None:
        """Takes the first hole that holds ``n_bytes``; None when there is no such hole."""
        size = whole_pages(n_bytes)
        for at, hole in enumerate(self._holes):
            if hole.n_bytes >= size:
                middle = hole.start + size
                self._holes[at : at + 1] = [Extent(middle, hole.stop)] if middle < hole.stop else []
                self.used_bytes += size
                return Extent(hole.start, middle)
        return None

    def free(self, extent: Extent) -> None:
        """Gives an extent back; its bytes may be overwritten from now on."""
        self.used_bytes -= extent.n_bytes
        start, stop = extent
        at = bisect(self._holes, extent)
        if at < len(self._holes) and self._holes[at].start == stop:
            stop = self._holes.pop(at).stop
        if at > 0 and self._holes[at - 1].stop == start:
            at -= 1
            start = self._holes.pop(at).start
        self._holes.insert(at, Extent(start, stop))

    def view(self, extent: Extent) -> Tensor:
        """Returns the extent's bytes, uint8, in place: valid until the extent is freed."""
        return self._buffer[extent.start : extent.stop]


def _page_lock(buffer: Tensor) -> None:
    # Not `pin_memory=True`: PyTorch's pinned allocator rounds up to a power of two, up to twice the budget.
    cudart = torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    torch.cuda.check_error(int(cudart.cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0)))
    weakref.finalize(buffer, cudart.cudaHostUnregister, buffer.data_ptr())
