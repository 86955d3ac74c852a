"""A stream's blocks over its tiers, under hard byte budgets.

A block comes into being on the host. With a disk below, the host is a cache of it as soon as the disk has the block;
the device always is a cache of the host. A block that leaves its last tier is forgotten: its line goes too, and the
caller is told. One thread owns a memory; what it hands out, snapshots and fetched payloads, stays as it is whatever
happens to the memory later.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.errors import MemoryBudgetError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout, KVBlock, Positions
from streamvlm.memory.device_cache import DeviceCache
from streamvlm.memory.disk.catalog import BlockLocation
from streamvlm.memory.disk.store import DiskStats, DiskStore, Put
from streamvlm.memory.host_arena import Extent, SlabArena, slot_bytes

Snapshot = tuple[KVBlock, ...]
"""The lines of the blocks that a question may see, oldest first."""


class Settled(NamedTuple):
    """What the disk has done lately: ids of blocks that it now holds, and of those that it does not or no longer."""

    stored: set[int]
    gone: set[int]


class DiskTier(Protocol):
    """A disk store written to behind the stream's back."""

    @property
    def store(self) -> DiskStore:
        """What is read from, at any time."""

    def submit(self, put: Put) -> None:
        """Takes a block to be written; its tensors stay as they are until it is settled."""

    def extend(self, block_id: int, end_s: float) -> None:
        """Lets a block that was submitted stand for the time up to ``end_s`` as well."""

    def settle(self) -> Settled:
        """What has happened since this was last asked."""

    def drain(self) -> None:
        """Returns when everything submitted is settled."""


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What a memory holds: blocks by fidelity, bytes by tier, and how many blocks it has forgotten so far.

    ``disk`` is None while there is no disk tier.
    """

    n_blocks: int
    n_clear: int
    n_fuzzy: int
    n_forgotten: int
    host_bytes: int
    host_budget_bytes: int
    device_bytes: int
    device_budget_bytes: int
    disk: DiskStats | None = None


class BlockMemory:
    """Keeps blocks, evicts the least recently appended or fetched ones, and never those of the window.

    On a CPU the device tier stays empty, whatever its budget: a second copy in the same RAM saves nothing.

    Args:
        layout: Shape and dtype of the payloads.
        device: Where fetched payloads are wanted.
        device_budget_bytes: Bytes of payload to cache on the device.
        host_budget_bytes: Bytes of host RAM for payloads, in slots of whole pages.
        on_forget: Told the ids of the blocks that have left the last tier, each id once.
        disk: The tier below; what it holds already is remembered from the start.
    """

    def __init__(
        self,
        layout: BlockLayout,
        *,
        device: torch.device | str,
        device_budget_bytes: int,
        host_budget_bytes: int,
        on_forget: Callable[[list[int]], None] = lambda ids: None,
        disk: DiskTier | None = None,
    ) -> None:
        self._layout = layout
        self._device = torch.device(device)
        self._on_forget, self._disk = on_forget, disk
        self._arena = SlabArena(host_budget_bytes, pinned=self._device.type == "cuda")
        self._cache = DeviceCache(0 if self._device.type == "cpu" else device_budget_bytes)
        self._lines: dict[int, KVBlock] = {}
        self._slots: OrderedDict[int, Extent] = OrderedDict()  # least recently used first
        self._ids: NDArray[np.int64] | None = None  # of all lines, until one comes or goes
        self._next_id = 0
        self._n_clear = 0
        self._window_start = sys.maxsize
        self._pending: set[int] = set()  # submitted to the disk, not settled: their host bytes are in use
        if disk is not None:
            for block in disk.store.blocks():
                self._note(block)
            self._next_id = disk.store.next_id()

    def append(
        self,
        payload: Tensor,
        *,
        start_s: float,
        fidelity: Fidelity,
        score: float,
        positions: Positions | None = None,
        rows: Tensor | None = None,
    ) -> KVBlock:
        """Copies a new block in, forgetting old ones where their bytes are needed.

        Args:
            payload: (L, 2, K, N, D) raw keys and values in the layout's dtype, any device.
            start_s: Stream time of its frame.
            fidelity: ``clear`` or ``fuzzy``.
            score: The gate's score of its frame.
            positions: Where its tokens stand; by default one behind the other.
            rows: (N, sources, D) index rows, to lie on disk beside the payload; needed with a disk tier only.

        Raises:
            ValueError: If the payload does not fit the layout.
            MemoryBudgetError: If it does not fit beside the window; nothing has been forgotten then.
        """
        n_tokens = payload.shape[3] if payload.dim() == 5 else 0
        fits = payload.dtype == self._layout.dtype and payload.shape == self._layout.shape(n_tokens)
        if n_tokens == 0 or not fits:
            raise ValueError(f"payload {tuple(payload.shape)} {payload.dtype} does not fit {self._layout}")
        slot = self._make_room(payload.nbytes)
        block = KVBlock(self._next_id, start_s, start_s, fidelity, score, n_tokens, positions)
        self._next_id += 1
        self._slots[block.id] = slot
        self._note(block)
        self._payload(block.id).copy_(payload)
        if self._disk is not None:
            assert rows is not None, "a disk tier keeps index rows beside the payload"
            self._pending.add(block.id)
            self._disk.submit(Put(block, self._payload(block.id), rows.cpu()))
            self._settle()
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
        if self._disk is not None:
            self._disk.extend(newest, end_s)

    def pin_from(self, block_id: int) -> None:
        """Makes this block the window's first: it and all newer ones, also those to come, are not evicted."""
        self._window_start = block_id

    def snapshot(self, until_s: float | None = None) -> Snapshot:
        """The lines of the blocks whose frame is no later than ``until_s``, oldest first."""
        if until_s is None or not self._lines or next(reversed(self._lines.values())).start_s <= until_s:
            return tuple(self._lines.values())
        return tuple(line for line in self._lines.values() if line.start_s <= until_s)

    def ids(self) -> NDArray[np.int64]:
        """Ids of all blocks, oldest first: those of ``snapshot()``."""
        if self._ids is None:
            self._ids = np.fromiter(self._lines, np.int64, len(self._lines))
            self._ids.setflags(write=False)
        return self._ids

    def fetch(self, ids: Iterable[int]) -> list[Tensor]:
        """Payloads (L, 2, K, N, D) on the device, in the order asked for; to be read, not written.

        They stay valid and unchanged when their blocks are evicted.

        Raises:
            KeyError: If a block was forgotten, never was, or is found damaged on disk or gone from it: then it is
                forgotten now. ``id in memory`` tells.
        """
        wanted = list(ids)
        self._settle()
        payloads = {i: self._fetch(i) for i in wanted if i in self._slots}
        missing = sorted(i for i in set(wanted) - payloads.keys())
        if missing:
            self._from_disk(missing, payloads)
        return [payloads[block_id] for block_id in wanted]

    def line(self, block_id: int) -> KVBlock:
        """A remembered block's line, as of what ``fetch`` last gave of it; KeyError if it is forgotten."""
        return self._lines[block_id]

    def __contains__(self, block_id: object) -> bool:
        """Whether the block is still remembered."""
        return block_id in self._lines

    def stats(self) -> MemoryStats:
        """Counts and bytes as of now."""
        return MemoryStats(
            n_blocks=len(self._lines),
            n_clear=self._n_clear,
            n_fuzzy=len(self._lines) - self._n_clear,
            n_forgotten=self._next_id - len(self._lines),
            host_bytes=self._arena.used_bytes,
            host_budget_bytes=self._arena.budget_bytes,
            device_bytes=self._cache.used_bytes,
            device_budget_bytes=self._cache.budget_bytes,
            disk=self._disk.store.stats() if self._disk is not None else None,
        )

    def flush(self) -> None:
        """Returns once the disk tier, if there is one, has all that is remembered."""
        if self._disk is not None:
            self._disk.drain()
            self._settle()

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

    def _from_disk(self, missing: list[int], payloads: dict[int, Tensor]) -> None:
        """Fetches blocks that have left the host, as many at a time as it has room for."""
        store = self._disk.store if self._disk is not None else None
        places = {i: place for i in missing if store is not None and (place := store.locate(i)) is not None}
        if store is None or len(places) < len(missing):
            self._lose([i for i in missing if i not in places], "are not remembered")
        store.announce(places.values())
        while places:
            room = self._room_for(places)
            read = [(places.pop(i), self._arena.view(slot)) for i, slot in room.items()]
            lost = []
            for (place, _), is_whole in zip(read, store.load(read), strict=True):
                block_id = place.block.id
                if is_whole and block_id in self._lines:  # making room may have told that the disk dropped it
                    self._slots[block_id] = room[block_id]
                    self._note(replace(place.block, end_s=self._lines[block_id].end_s))
                    payloads[block_id] = self._fetch(block_id)
                    continue
                self._arena.free(room[block_id])
                moved = store.locate(block_id)
                if moved is not None and moved != place:  # faded while it was read
                    places[block_id] = moved
                else:
                    store.quarantine(block_id)
                    lost.append(block_id)
            if lost:
                self._lose(lost, "are damaged on disk, or no longer there")

    def _room_for(self, places: Mapping[int, BlockLocation]) -> dict[int, Extent]:
        """Host bytes for the first of these blocks, as many as there is room for."""
        room: dict[int, Extent] = {}
        for block_id, place in places.items():
            slot = self._alloc(place.block.n_tokens * self._layout.token_bytes)
            if slot is None:
                break
            room[block_id] = slot
        if not room:
            raise MemoryBudgetError(
                f"the host budget of {self._arena.budget_bytes} bytes has no room to fetch a block beside the "
                "window: raise it or shorten the window"
            )
        return room

    def _lose(self, ids: Iterable[int], why: str) -> NoReturn:
        """Forgets what cannot be had any more, and says so."""
        lost = list(ids)
        self._forget_all(lost)
        raise KeyError(f"blocks {lost} {why}")

    def _settle(self) -> None:
        """Takes notice of what the disk has stored, and of what it could not keep."""
        if self._disk is None:
            return
        stored, gone = self._disk.settle()
        self._pending -= stored | gone
        # What found no room on disk lives on as long as the host has room for it; what was there is forgotten.
        self._forget_all(i for i in sorted(gone) if i not in self._slots)

    def _make_room(self, n_bytes: int) -> Extent:
        window = list(takewhile(lambda block_id: block_id >= self._window_start, reversed(self._lines)))
        window_bytes = sum(self._slots[block_id].n_bytes for block_id in window if block_id in self._slots)
        needed_bytes = window_bytes + slot_bytes(n_bytes)
        if needed_bytes > self._arena.budget_bytes:
            raise MemoryBudgetError(
                f"the window's {len(window)} blocks and the new one need {needed_bytes} bytes of host memory "
                f"but the budget is {self._arena.budget_bytes}: raise it or shorten the window"
            )
        slot = self._alloc(n_bytes)
        if slot is None:
            self.flush()  # the packing moves bytes that the disk may still be reading
            self._defragment()
            slot = self._arena.alloc(n_bytes)
        assert slot is not None, f"{needed_bytes} bytes fit, but not in one piece"
        return slot

    def _alloc(self, n_bytes: int) -> Extent | None:
        """Host bytes, in place of the least recently used blocks where need be; None if only the window's are left."""
        forgotten: list[int] = []
        while (slot := self._arena.alloc(n_bytes)) is None:
            older = (i for i in self._slots if i < self._window_start)
            oldest = next((i for i in older if i not in self._pending), None)
            if oldest is None:
                if not any(i < self._window_start for i in self._pending & self._slots.keys()):
                    break
                self.flush()
            elif self._disk is not None and self._disk.store.locate(oldest) is not None:
                self._evict(oldest)
            else:
                self._forget(oldest)
                forgotten.append(oldest)
        if forgotten:
            self._on_forget(forgotten)
        return slot

    def _evict(self, block_id: int) -> None:
        self._cache.drop(block_id)
        self._arena.free(self._slots.pop(block_id))

    def _note(self, line: KVBlock) -> None:
        """Adds a block's line, or puts it in place of the one there was."""
        old = self._lines.get(line.id)
        self._n_clear += (line.fidelity is Fidelity.CLEAR) - (old is not None and old.fidelity is Fidelity.CLEAR)
        self._lines[line.id] = line
        self._ids = None if old is None else self._ids

    def _forget_all(self, ids: Iterable[int]) -> None:
        """Forgets those of these blocks that are remembered, and tells so."""
        forgotten = [i for i in ids if i in self._lines]
        for block_id in forgotten:
            self._forget(block_id)
        if forgotten:
            self._on_forget(forgotten)

    def _forget(self, block_id: int) -> None:
        self._n_clear -= self._lines.pop(block_id).fidelity is Fidelity.CLEAR
        self._ids = None
        if block_id in self._slots:
            self._evict(block_id)

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
