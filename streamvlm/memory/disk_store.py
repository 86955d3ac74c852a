"""The disk tier: blocks in the slots of segment files, found through a catalog, checked whenever they are read.

One thread commits. A block goes through reserve (a free slot, in memory), write, fdatasync and commit (its row);
a crash before the commit leaves a free slot, never half a block. Any thread may read: a slot that has been given to
another block meanwhile shows by its header.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.catalog import Catalog, Place
from streamvlm.memory.codec import Codec, encode
from streamvlm.memory.disk_io import DiskIO
from streamvlm.memory.fade import fade
from streamvlm.memory.free_slots import FreeSlots
from streamvlm.memory.quota import DiskQuota
from streamvlm.memory.segment import segment_bytes
from streamvlm.memory.segment_set import Sealed, SegmentSet, Spot, spot
from streamvlm.memory.slot import SlotShape

_CLEAR_SHARE = 0.75
"""Of the budget, for clear blocks: the rest is where they fade to."""


@dataclass(frozen=True, slots=True)
class Put:
    """A block to be written: its line, payload (L, 2, K, N, D) and index rows (N, sources, D), both on the CPU."""

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
        on_event: Told in a sentence of whatever should not go unnoticed.

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
        io: DiskIO | None = None,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self._codec, self._tell = folder, codec, on_event
        self._places: dict[int, Place] = {}
        self._in_hand: set[int] = set()  # segments that the commit under way has put something into, or will
        self._n_faded = self._n_dropped = self._n_damaged = 0
        self._starved: set[SlotShape] = set()  # told to find no room
        self._quarantined: list[int] = []
        self._dropped: set[int] = set()
        with ExitStack() as opened:
            self._catalog = Catalog(folder)
            opened.callback(self._catalog.close)
            self._segments = SegmentSet(folder, layout, fingerprint, io or DiskIO(), on_event)
            opened.callback(self._segments.close)
            self._take_up()
            used = {spot(place) for place in self._places.values()}
            self._slots = FreeSlots(self._segments, used, budget_bytes, quota or DiskQuota(sys.maxsize), on_event)
            self._keep_within(budget_bytes)
            opened.pop_all()

    # --- reading: any thread ---

    def blocks(self) -> list[KVBlock]:
        """Lines of all committed blocks, oldest first."""
        return [place.block for _, place in sorted(self._places.items())]

    def next_id(self) -> int:
        """One above every id ever committed."""
        return self._catalog.next_id()

    def locate(self, block_id: int) -> Place | None:
        """Where a committed block lies; None if it is not on disk."""
        return self._places.get(block_id)

    def announce(self, places: Iterable[Place]) -> None:
        """Lets the kernel start to read these blocks now, while others are still worked on."""
        self._segments.announce(places)

    def drop_cache(self) -> None:
        """Lets the kernel forget its copies of the segments: the next reading is the disk's own."""
        self._segments.drop_cache()

    def load(self, wanted: Sequence[tuple[Place, Tensor]]) -> list[bool]:
        """Reads payloads, in the order of the disk.

        Args:
            wanted: Places, and where their payloads go: uint8 buffers of whole pages, as the arena hands them out.

        Returns:
            For each whether it holds its block now: not if the slot is damaged, unreadable, or was reused meanwhile.
        """
        return self._segments.load(wanted)

    def rows(self) -> Iterator[tuple[KVBlock, Tensor]]:
        """Index rows (N, sources, D) of all committed blocks, oldest first; damaged blocks are quarantined."""
        for block_id, place in sorted(self._places.items()):
            rows = self._segments.rows(place)
            if rows is None:
                self.quarantine(block_id)
            else:
                yield place.block, rows

    def quarantine(self, block_id: int) -> None:
        """Takes a block that cannot be read out of service; its slot is not used again while this store is open."""
        place = self._places.pop(block_id, None)
        if place is not None and spot(place) not in self._segments.unread:  # else it stays on disk, for another day
            self._n_damaged += 1
            self._quarantined.append(block_id)
            self._tell(
                f"block {block_id} ({place.block.start_s:.0f} s) in {self._segments.name_of(place)} is "
                "damaged and was taken out of memory"
            )

    def stats(self) -> DiskStats:
        """Counts and bytes as of now."""
        return DiskStats(
            len(self._places),
            self._segments.n_bytes,
            self._slots.budget_bytes,
            self._n_faded,
            self._n_dropped,
            self._n_damaged,
        )

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
        self._in_hand.clear()
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
        encoded = encode(self._codec, put.payload)
        shape = SlotShape.of(put.block, put.rows.nbytes, len(encoded))
        taken = self._take(shape, put.block)
        if taken is None:
            if shape not in self._starved:
                self._tell(f"no disk is left for {self.folder}: what is seen goes on in RAM alone until there is")
            self._starved.add(shape)
            return None
        self._starved.discard(shape)
        return Sealed(Place(put.block, *taken, next(self._sequence), self._codec), put.rows, encoded)

    def dropped(self) -> set[int]:
        """Ids of blocks dropped for want of room since this was last asked."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    def close(self) -> None:
        """Closes all files."""
        self._catalog.close()
        self._segments.close()

    # --- opening ---

    def _take_up(self) -> None:
        """Takes the catalog for true as far as segments bear it out: what has lost its file is dropped."""
        lost = []
        for place in self._catalog.places():
            if self._segments.holds(place):
                self._places[place.block.id] = place
            else:
                lost.append(place.block.id)
        if lost:
            self._tell(f"{len(lost)} blocks were forgotten because their segment files in {self.folder} are gone")
            self._catalog.commit([], {}, lost)
        # Above what a process that was killed wrote and never committed, too: a repair takes the highest.
        highest = max((place.sequence for place in self._places.values()), default=0)
        self._sequence = count(max(highest + 1, time.time_ns()))

    def _keep_within(self, budget_bytes: int) -> None:
        excess_bytes = self._segments.n_bytes - budget_bytes
        if excess_bytes > 0:
            numbers = self._written_longest_ago(self._by_segment(), excess_bytes)
            self._empty(numbers)
            self._slots.remove(numbers)

    # --- room ---

    def _take(self, shape: SlotShape, block: KVBlock) -> Spot | None:
        """Reserves a slot: a free one, one of a new segment, or one whose block fades or is dropped for it."""
        taken = self._slots.take(shape)
        if taken is None and self._make_room(shape, block):
            taken = self._slots.take(shape)
        if taken is not None:
            self._in_hand.add(taken[0])
        return taken

    def _make_room(self, shape: SlotShape, block: KVBlock) -> bool:
        own = [place for _, place in sorted(self._places.items()) if self._segments.shape_of(place) == shape]
        share = _CLEAR_SHARE if own and block.fidelity is Fidelity.CLEAR else 1.0
        return self._slots.add(shape, share) or self._displace(shape, block, own) or self._thin(shape, own)

    def _displace(self, shape: SlotShape, block: KVBlock, own: Sequence[Place]) -> bool:
        """Gives up segments of other shapes for one of this: of blocks in another codec, or of other pictures.

        Those go that were written to longest ago: all before the oldest block that this shape has, and holding its
        fidelities alone. Only where a new block's shape has none yet, any will do.
        """
        is_first = not own and block.id not in self._places
        fidelities = set(Fidelity) if is_first else {block.fidelity, *(place.block.fidelity for place in own)}
        since = min((place.sequence for place in own), default=sys.maxsize)
        segments = self._segments.all()
        stale = {
            number: places
            for number, places in self._by_segment().items()
            if segments[number].shape != shape
            and number not in self._in_hand
            and all(one.sequence < since and one.block.fidelity in fidelities for one in places)
        }
        numbers = self._written_longest_ago(stale, segment_bytes(shape, 1))
        if not numbers:
            return False
        self._empty(numbers)
        return self._slots.swap(numbers, shape)

    def _thin(self, shape: SlotShape, own: Sequence[Place]) -> bool:
        """Frees slots of a shape: of the older half of its blocks the flattest fade, or are dropped."""
        if not own:
            return False
        older = own[: -(-len(own) // 2)]
        leaving = sorted(older, key=lambda place: place.block.score)[: -(-len(older) // 4)]
        self._in_hand |= {place.segment for place in leaving}
        faded = [sealed for place in leaving if (sealed := self._faded(place)) is not None]
        self._segments.write(faded)
        kept = {one.place.block.id: one.place for one in faded}
        self._replace(kept, {place.block.id for place in leaving} - kept.keys())
        for place in leaving:
            self._slots.give_back(shape, spot(place))
        self._tell(
            f"the memory's {self._segments.n_bytes} bytes of disk are used up: of the oldest, flattest blocks "
            f"{len(kept)} fade and {len(leaving) - len(kept)} are forgotten"
        )
        return True

    def _faded(self, place: Place) -> Sealed | None:
        if place.block.fidelity is not Fidelity.CLEAR:
            return None
        rows, payload = self._segments.rows(place), self._segments.payload(place)
        if rows is None or payload is None:
            return None
        line, payload, rows = fade(place.block, payload, rows)
        encoded = encode(place.codec, payload)
        shape = SlotShape.of(line, rows.nbytes, len(encoded))
        if shape.n_bytes >= self._segments.shape_of(place).n_bytes:
            return None  # it would not free anything
        taken = self._take(shape, line)
        return None if taken is None else Sealed(Place(line, *taken, next(self._sequence), place.codec), rows, encoded)

    def _empty(self, numbers: Collection[int]) -> None:
        """Drops the blocks in some segments, which are in the way."""
        dropped = {i for i, place in list(self._places.items()) if place.segment in numbers}
        self._replace({}, dropped)
        if dropped:
            self._tell(f"{len(dropped)} blocks in {self.folder} are forgotten: others need the segments they lie in")

    def _replace(self, faded: Mapping[int, Place], dropped: set[int]) -> None:
        """Remembers blocks elsewhere, as faded, and drops others."""
        self._catalog.commit(faded.values(), {}, dropped)
        self._places |= faded  # first: who looks for a block that only faded finds it at any moment
        for block_id in dropped:
            self._places.pop(block_id, None)  # may be found damaged, and gone, at any moment
        self._n_faded += len(faded)
        self._n_dropped += len(dropped)
        self._dropped |= dropped

    def _by_segment(self) -> dict[int, list[Place]]:
        inside: dict[int, list[Place]] = {number: [] for number in self._segments.all()}
        for place in list(self._places.values()):
            inside[place.segment].append(place)
        return inside

    def _written_longest_ago(self, inside: Mapping[int, list[Place]], n_bytes: int) -> list[int]:
        """The first of these segments that have so many bytes together; none if they have not."""
        segments, numbers = self._segments.all(), []
        for number in sorted(inside, key=lambda n: max((place.sequence for place in inside[n]), default=0)):
            numbers.append(number)
            n_bytes -= segments[number].n_bytes
            if n_bytes <= 0:
                return numbers
        return []
