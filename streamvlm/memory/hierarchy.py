"""A stream's blocks over its tiers, under hard byte budgets: device, host, disk.

A block comes into being on the host. With a disk below, the host is a cache of it as soon as the disk has the block;
the device always is a cache of the host. Fetching promotes a block, tier by tier; where the host needs its bytes for
others it is demoted to the disk, or forgotten if the disk does not hold it: then its entry in the block table goes too.
One thread owns a memory; what it hands out, snapshots and fetched payloads, stays as it is whatever happens later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from streamvlm.errors import MemoryBudgetError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout, KVBlock, Positions
from streamvlm.memory.block_table import BlockTable
from streamvlm.memory.device_tier import DeviceTier
from streamvlm.memory.disk.catalog import BlockLocation
from streamvlm.memory.disk.store import DiskStats, Put
from streamvlm.memory.disk_tier import DiskTier
from streamvlm.memory.host_arena import Extent
from streamvlm.memory.host_tier import HostTier


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

    On a CPU there is no device tier, whatever its budget: a second copy in the same RAM saves nothing.

    Args:
        layout: Shape and dtype of the payloads.
        device: Where fetched payloads are wanted.
        device_budget_bytes: Bytes of payload to cache on the device.
        host_budget_bytes: Bytes of host RAM for payloads, in whole pages.
        on_forget: Gets the ids of the blocks that have left the last tier, each id once.
        disk: The tier below; what it holds already is remembered from the start.

    Attributes:
        table: The entries of the blocks that are remembered.
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
        self._on_device = None if self._device.type == "cpu" else DeviceTier(device_budget_bytes)
        self._host = HostTier(host_budget_bytes, pinned=self._device.type == "cuda")
        self._pending: set[int] = set()  # submitted to the disk, not settled: their host bytes are in use
        self.table = BlockTable() if disk is None else BlockTable(disk.store.blocks(), disk.store.next_id())

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
        self._check_budget(payload.nbytes)
        self._put(self.table.next_id, payload)
        block = self.table.add(start_s, fidelity, score, n_tokens, positions)
        if self._disk is not None:
            assert rows is not None, "a disk tier keeps index rows beside the payload"
            self._pending.add(block.id)
            self._disk.submit(Put(block, self._host.get(block.id), rows.cpu()))
            self._settle()
        return block

    def extend(self, end_s: float) -> None:
        """Lets the newest block stand for the time up to ``end_s`` as well; ValueError if there is no block yet."""
        newest = self.table.extend(end_s)
        if self._disk is not None:
            self._disk.extend(newest, end_s)

    def fetch(self, ids: Iterable[int]) -> list[Tensor]:
        """Returns payloads (L, 2, K, N, D) on the device, in the order asked for; to be read, not written.

        They stay valid and unchanged when their blocks are evicted.

        Raises:
            KeyError: If a block was forgotten, never was, or is found damaged on disk or gone from it: then it is
                forgotten now. ``id in memory.table`` tells.
        """
        wanted = list(ids)
        self._settle()
        payloads = {i: self._to_device(i) for i in wanted if i in self._host}
        missing = sorted(i for i in set(wanted) - payloads.keys())
        if missing:
            self._promote(missing, payloads)
        return [payloads[block_id] for block_id in wanted]

    def read(self, ids: Sequence[int]) -> list[tuple[KVBlock, Tensor]]:
        """Returns those of these blocks that can still be read, and their payloads as ``fetch`` gives them.

        A block that proves damaged is forgotten, and the others are read all the same.
        """
        while True:
            readable = [block_id for block_id in ids if block_id in self.table]
            with suppress(KeyError):  # what cannot be had is forgotten now
                payloads = self.fetch(readable)
                return [(self.table[i], payload) for i, payload in zip(readable, payloads, strict=True)]

    def flush(self) -> None:
        """Returns once the disk tier, if there is one, has all that is remembered."""
        if self._disk is not None:
            self._disk.drain()
            self._settle()

    def stats(self) -> MemoryStats:
        """Returns counts and bytes as of now."""
        table, cache, arena = self.table, self._on_device, self._host.arena
        return MemoryStats(
            n_blocks=len(table),
            n_clear=table.n_clear,
            n_fuzzy=len(table) - table.n_clear,
            n_forgotten=table.next_id - len(table),
            host_bytes=arena.used_bytes,
            host_budget_bytes=arena.budget_bytes,
            device_bytes=0 if cache is None else cache.used_bytes,
            device_budget_bytes=0 if cache is None else cache.budget_bytes,
            disk=None if self._disk is None else self._disk.store.stats(),
        )

    # --- up: from the disk to the host, from the host to the device ---

    def _to_device(self, block_id: int) -> Tensor:
        payload = self._host.get(block_id)
        if self._on_device is None:
            return payload.clone()
        cached = self._on_device.get(block_id)
        if cached is None:
            cached = payload.to(self._device, copy=True)
            self._on_device.put(block_id, cached)
        return cached

    def _promote(self, missing: list[int], payloads: dict[int, Tensor]) -> None:
        """Fetches blocks that have left the host, as many at a time as it has room for."""
        store = self._disk.store if self._disk is not None else None
        places = {i: place for i in missing if store is not None and (place := store.locate(i)) is not None}
        if store is None or len(places) < len(missing):
            self._lose([i for i in missing if i not in places], "are not remembered")
        store.announce(places.values())
        while places:
            room = self._room_for(places)
            read = [(places.pop(i), self._host.arena.view(extent)) for i, extent in room.items()]
            lost = []
            for (place, _), is_whole in zip(read, store.load(read), strict=True):
                block_id = place.block.id
                if is_whole and block_id in self.table:  # making room may have told that the disk dropped it
                    self._host.hold(
                        block_id, room[block_id], self._layout.shape(place.block.n_tokens), self._layout.dtype
                    )
                    self.table.put(replace(place.block, end_s=self.table[block_id].end_s))
                    payloads[block_id] = self._to_device(block_id)
                    continue
                self._host.arena.free(room[block_id])
                moved = store.locate(block_id)
                if moved is not None and moved != place:  # faded while it was read
                    places[block_id] = moved
                else:
                    store.quarantine(block_id)
                    lost.append(block_id)
            if lost:
                self._lose(lost, "are damaged on disk, or no longer there")

    def _room_for(self, places: Mapping[int, BlockLocation]) -> dict[int, Extent]:
        """Returns host bytes for the first of these blocks, as many as there is room for."""
        room: dict[int, Extent] = {}
        for block_id, place in places.items():
            n_bytes = place.block.n_tokens * self._layout.token_bytes
            while (extent := self._host.arena.alloc(n_bytes)) is None and self._demote_oldest():
                pass
            if extent is None:
                break
            room[block_id] = extent
        if not room:
            raise MemoryBudgetError(
                f"The host budget of {self._host.arena.budget_bytes} bytes has no room to fetch a block beside the "
                "window: raise it or shorten the window."
            )
        return room

    # --- down: from the host to the disk, or out of memory ---

    def _check_budget(self, n_bytes: int) -> None:
        """Raises ``MemoryBudgetError`` if a payload of so many bytes does not fit beside the window."""
        window = self.table.window()
        needed_bytes = self._host.needed_bytes(window, n_bytes)
        if needed_bytes > (budget_bytes := self._host.arena.budget_bytes):
            raise MemoryBudgetError(
                f"The window's {len(window)} blocks and the new one need {needed_bytes} bytes of host memory "
                f"but the budget is {budget_bytes}: raise it or shorten the window."
            )

    def _put(self, block_id: int, payload: Tensor) -> None:
        """Copies a payload to the host, in place of the least recently used blocks where need be."""
        while not self._host.put(block_id, payload):
            if not self._demote_oldest():
                self.flush()  # the packing moves bytes that the disk may still be reading
                self._host.pack()  # only window blocks are left: little to move, and their holes add up to enough
                is_in = self._host.put(block_id, payload)
                assert is_in, f"{payload.nbytes} bytes fit, but not in one piece"
                return

    def _demote_oldest(self) -> bool:
        """Lets the least recently used block leave the host; False if only those of the window are left."""
        oldest = self._host.oldest(self.table.window_start, but=self._pending)
        if oldest is not None:
            if self._disk is not None and self._disk.store.locate(oldest) is not None:
                self._leave_host(oldest)
            else:
                self._forget([oldest])
            return True
        if self._host.oldest(self.table.window_start, but=()) is None:
            return False
        self.flush()  # all that could leave is still being written
        return True

    def _settle(self) -> None:
        """Takes notice of what the disk has stored, and of what it could not keep: only writing changes either."""
        if self._disk is None or not self._pending:
            return
        stored, gone = self._disk.settle()
        self._pending -= stored | gone
        # What found no room on disk lives on as long as the host has room for it; what was there is forgotten.
        self._forget(i for i in sorted(gone) if i not in self._host)

    def _lose(self, ids: Iterable[int], why: str) -> NoReturn:
        """Forgets blocks that cannot be had any more, and raises KeyError."""
        lost = list(ids)
        self._forget(lost)
        raise KeyError(f"blocks {lost} {why}")

    def _forget(self, ids: Iterable[int]) -> None:
        """Forgets those of these blocks that are remembered, and tells so."""
        forgotten = [i for i in ids if i in self.table]
        for block_id in forgotten:
            self.table.remove(block_id)
            self._leave_host(block_id)
        if forgotten:
            self._on_forget(forgotten)

    def _leave_host(self, block_id: int) -> None:
        if self._on_device is not None:
            self._on_device.drop(block_id)
        self._host.drop(block_id)
