"""The disk tier: blocks in the slots of segment files, found through a catalog, checked whenever they are read.

One thread commits. A block goes through reserve (a free slot, in memory), write, fdatasync and commit (its row);
a crash before the commit leaves a free slot, never half a block. Any thread may read: a slot that has been given to
another block meanwhile shows by its header.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.disk.catalog import BlockLocation, Catalog
from streamvlm.memory.disk.codec import Codec, encode
from streamvlm.memory.disk.free_slots import FreeSlots
from streamvlm.memory.disk.quota import DiskQuota
from streamvlm.memory.disk.reclaim import Reclaimer
from streamvlm.memory.disk.segment_files import Sealed, SegmentFiles, spot
from streamvlm.memory.disk.slot import SlotShape
from streamvlm.memory.disk.system_calls import SystemCalls


@dataclass(frozen=True, slots=True)
class Put:
    """A block to be written: its entry, payload (L, 2, K, N, D) and index rows (N, sources, D), both on the CPU."""

    block: KVBlock
    payload: Tensor
    rows: Tensor


@dataclass(frozen=True, slots=True)
class DiskStats:
    """Blocks and bytes on disk, and what has happened to them since the store was opened."""

    n_blocks: int
    file_bytes: int
    budget_bytes: int
    n_faded: int
    n_dropped: int
    n_damaged: int


class DiskStore:
    """Blocks of one stream in a folder.

    Args:
        folder: Where the segments and the catalog lie; there already.
        layout: Shape of a token's keys and values.
        fingerprint: Of the model, at most 16 ASCII characters.
        codec: How new blocks are encoded; those there keep theirs.
        budget_bytes: Most bytes of segment files; if there are more, those written to longest ago are given up.
        quota: What this and other stores may take together; by default as much as there is.
        io: How files are read and written.
        on_event: Gets a sentence about what should not go unnoticed.

    Raises:
        StoreError: If catalog or segments cannot be read, or belong to another model.
    """

    def __init__(
        self,
        folder: Path,
        layout: BlockLayout,
        fingerprint: str,
        *,
        codec: Codec = Codec.RAW,
        budget_bytes: int,
        quota: DiskQuota | None = None,
        io: SystemCalls | None = None,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self._codec, self._tell = folder, codec, on_event
        self._places: dict[int, BlockLocation] = {}
        self._starved: set[int] = set()  # sizes of blocks that were told to find no room
        self._quarantined: list[int] = []
        self._n_damaged = 0
        with ExitStack() as opened:
            self._catalog = Catalog(folder)
            opened.callback(self._catalog.close)
            self._segments = SegmentFiles(folder, layout, fingerprint, io or SystemCalls(), on_event)
            opened.callback(self._segments.close)
            self._take_up()
            quota = quota or DiskQuota(sys.maxsize)
            self._slots = FreeSlots(self._segments, self._places.values(), budget_bytes, quota, on_event)
            self._reclaimer = Reclaimer(self._places, self._catalog, self._segments, self._slots, on_event)
            self._reclaimer.keep_within(budget_bytes)
            opened.pop_all()

    # --- reading: any thread ---

    def blocks(self) -> list[KVBlock]:
        """Returns all committed blocks, oldest first."""
        return [place.block for _, place in sorted(self._places.items())]

    def next_id(self) -> int:
        """Returns one more than every id ever committed."""
        return self._catalog.next_id()

    def locate(self, block_id: int) -> BlockLocation | None:
        """Returns where a committed block lies; None if it is not on disk."""
        return self._places.get(block_id)

    def announce(self, places: Iterable[BlockLocation]) -> None:
        """Lets the kernel start to read these blocks now, while others are still worked on."""
        self._segments.announce(places)

    def drop_cache(self) -> None:
        """Lets the kernel forget its copies of the segments: the next reading is the disk's own."""
        self._segments.drop_cache()

    def load(self, wanted: Sequence[tuple[BlockLocation, Tensor]]) -> list[bool]:
        """Reads payloads, in the order of the disk.

        Args:
            wanted: Places, and where their payloads go: uint8 buffers of whole pages, as the arena hands them out.

        Returns:
            For each whether it holds its block now: not if the slot is damaged, unreadable, or was reused meanwhile.
        """
        return self._segments.load(wanted)

    def rows(self) -> Iterator[tuple[KVBlock, Tensor]]:
        """Yields the index rows (N, sources, D) of all committed blocks, oldest first; damaged ones are quarantined."""
        return self._each(self._segments.rows)

    def payloads(self) -> Iterator[tuple[KVBlock, Tensor]]:
        """Yields the payloads (L, 2, K, N, D) of all committed blocks, oldest first; damaged ones are quarantined."""
        return self._each(self._segments.payload)

    def quarantine(self, block_id: int) -> None:
        """Takes a block that cannot be read out of service; its slot is not used again while this store is open."""
        place = self._places.pop(block_id, None)
        if place is not None and spot(place) not in self._segments.unread:  # else it stays on disk, for another day
            self._n_damaged += 1
            self._quarantined.append(block_id)
            self._tell(
                f"Block {block_id} ({place.block.start_s:.0f} s) in {self._segments.name_of(place)} is "
                "damaged and was taken out of memory."
            )

    def stats(self) -> DiskStats:
        """Returns counts and bytes as of now."""
        return DiskStats(
            len(self._places),
            self._segments.n_bytes,
            self._slots.budget_bytes,
            self._reclaimer.n_faded,
            self._reclaimer.n_dropped,
            self._n_damaged,
        )

    def _each(self, read: Callable[[BlockLocation], Tensor | None]) -> Iterator[tuple[KVBlock, Tensor]]:
        for block_id, place in sorted(self._places.items()):
            if (found := read(place)) is None:
                self.quarantine(block_id)
            else:
                yield place.block, found

    # --- writing: one thread ---

    def commit(self, puts: Sequence[Put], ends_s: Mapping[int, float]) -> set[int]:
        """Writes blocks and lets blocks stand for longer; durable when it returns.

        Args:
            puts: New blocks.
            ends_s: New ends of blocks that are committed already.

        Returns:
            Ids of the blocks now on disk; others found no room.

        Raises:
            OSError: If the disk cannot be written; nothing of this call is remembered then.
            sqlite3.Error: Likewise.
            StoreError: If it does not keep what is written to it; likewise.
        """
        if not self._catalog.path.exists():
            # Open files outlive their folder, and would take everything with them when this process ends.
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")
        self._slots.begin()
        sealed = [one for put in puts if (one := self._seal(put)) is not None]
        self._segments.write(sealed)
        quarantined, self._quarantined = self._quarantined, []
        self._catalog.commit([one.place for one in sealed], ends_s, quarantined)
        stored = {one.place.block.id: one.place for one in sealed}
        self._places |= stored
        for block_id, end_s in ends_s.items():
            if (place := self._places.get(block_id)) is not None:
                self._places[block_id] = replace(place, block=replace(place.block, end_s=end_s))
        return set(stored)

    def _seal(self, put: Put) -> Sealed | None:
        """Reserves a slot for a block: a free one, or one that is reclaimed; None if no room can be made for it."""
        raw = self._codec is Codec.RAW  # then the payload is written as it lies in RAM
        encoded = put.payload if raw else encode(self._codec, put.payload)
        shape = SlotShape.of(put.block, put.rows.nbytes, encoded.nbytes)
        taken = self._slots.take(shape) or self._reclaimer.take(shape, put.block)
        if taken is not None:
            self._starved.discard(encoded.nbytes)
            place = BlockLocation(put.block, *taken, next(self._slots.sequences), self._codec)
            return Sealed(place, put.rows, encoded)
        if encoded.nbytes not in self._starved:
            self._starved.add(encoded.nbytes)
            self._tell(f"No disk is left for {self.folder}: what is seen goes on in RAM alone until there is.")
        return None

    def dropped(self) -> set[int]:
        """Returns the ids of blocks dropped for want of room since the last call."""
        dropped, self._reclaimer.dropped = self._reclaimer.dropped, set()
        return dropped

    def close(self) -> None:
        """Closes all files."""
        self._catalog.close()
        self._segments.close()

    # --- opening ---

    def _take_up(self) -> None:
        """Takes the catalog's blocks up; those whose segment file is gone are dropped."""
        lost = []
        for place in self._catalog.places():
            if self._segments.holds(place):
                self._places[place.block.id] = place
            else:
                lost.append(place.block.id)
        if lost:
            self._tell(f"{len(lost)} blocks were forgotten because their segment files in {self.folder} are gone.")
            self._catalog.commit([], {}, lost)
