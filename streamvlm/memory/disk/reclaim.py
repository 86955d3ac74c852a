"""Reclaims slots: where none is free, segments are added, blocks fade, and blocks are dropped.

First come new segments. Then, of the blocks in slots of the wanted shape, the oldest and flattest fade, or are dropped
once they have. Where the shape has too little of the disk, segments of other shapes are given up for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk.catalog import BlockLocation, Catalog
from streamvlm.memory.disk.codec import encode
from streamvlm.memory.disk.fade import fade
from streamvlm.memory.disk.free_slots import FreeSlots
from streamvlm.memory.disk.segment import segment_bytes
from streamvlm.memory.disk.segment_files import Sealed, SegmentFiles, Spot
from streamvlm.memory.disk.slot import SlotShape
from streamvlm.readable import size

_CLEAR_SHARE = 0.75
"""Of the budget, for clear blocks: the rest is where they fade to."""


class Reclaimer:
    """Finds slots for blocks of a store where none is free; used by the thread that commits.

    Args:
        places: Where the committed blocks lie, kept up to date here; other threads may read it, and take blocks out.
        catalog: Where that is committed.
        segments: What the slots are part of.
        slots: Those that are free.
        on_event: Gets a sentence about what fades and what is dropped.

    Attributes:
        n_faded: Blocks so far.
        n_dropped: Blocks so far.
        dropped: Ids of blocks that were dropped, until the store takes them.
    """

    def __init__(
        self,
        places: dict[int, BlockLocation],
        catalog: Catalog,
        segments: SegmentFiles,
        slots: FreeSlots,
        on_event: Callable[[str], None],
    ) -> None:
        self._places, self._catalog, self._segments, self._slots = places, catalog, segments, slots
        self._tell = on_event
        self.n_faded = self.n_dropped = 0
        self.dropped: set[int] = set()

    def take(self, shape: SlotShape, block: KVBlock) -> Spot | None:
        """Takes a slot of a new segment, or one whose block fades or is dropped; None if no room can be made.

        Raises:
            OSError: If the disk cannot be written.
            sqlite3.Error: Likewise.
            StoreError: If it does not keep what is written to it.
        """
        return self._slots.take(shape) if self._make_room(shape, block) else None

    def keep_within(self, budget_bytes: int) -> None:
        """Gives up segments until the others fit, those first that were written to longest ago."""
        excess_bytes = self._segments.n_bytes - budget_bytes
        if excess_bytes > 0:
            numbers = self._written_longest_ago(self._by_segment(), excess_bytes)
            self._empty(numbers)
            self._slots.remove(numbers)

    def _make_room(self, shape: SlotShape, block: KVBlock) -> bool:
        own = [place for _, place in sorted(self._places.items()) if self._segments.shape_of(place) == shape]
        share = _CLEAR_SHARE if own and block.fidelity is Fidelity.CLEAR else 1.0
        return self._slots.add(shape, share) or self._displace(shape, block, own) or self._thin(shape, own)

    def _displace(self, shape: SlotShape, block: KVBlock, own: Sequence[BlockLocation]) -> bool:
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
            and number not in self._slots.in_hand
            and all(one.sequence < since and one.block.fidelity in fidelities for one in places)
        }
        numbers = self._written_longest_ago(stale, segment_bytes(shape, 1))
        if not numbers:
            return False
        self._empty(numbers)
        return self._slots.swap(numbers, shape)

    def _thin(self, shape: SlotShape, own: Sequence[BlockLocation]) -> bool:
        """Frees slots of a shape: of the older half of its blocks the flattest fade, or are dropped."""
        if not own:
            return False
        older = own[: -(-len(own) // 2)]
        leaving = sorted(older, key=lambda place: place.block.score)[: -(-len(older) // 4)]
        self._slots.in_hand |= {place.segment for place in leaving}
        faded = [sealed for place in leaving if (sealed := self._faded(place)) is not None]
        self._segments.write(faded)
        kept = {one.place.block.id: one.place for one in faded}
        self._replace(kept, {place.block.id for place in leaving} - kept.keys())
        for place in leaving:
            self._slots.give_back(place)
        self._tell(
            f"The memory's {size(self._segments.n_bytes)} of disk are used up: of the oldest, flattest blocks "
            f"{len(kept)} fade and {len(leaving) - len(kept)} are forgotten."
        )
        return True

    def _faded(self, place: BlockLocation) -> Sealed | None:
        if place.block.fidelity is not Fidelity.CLEAR:
            return None
        rows, payload = self._segments.rows(place), self._segments.payload(place)
        if rows is None or payload is None:
            return None
        block, payload, rows = fade(place.block, payload, rows)
        encoded = encode(place.codec, payload)
        shape = SlotShape.of(block, rows.nbytes, encoded.nbytes)
        if shape.n_bytes >= self._segments.shape_of(place).n_bytes:
            return None  # it would not free anything
        taken = self._slots.take(shape) or self.take(shape, block)
        if taken is None:
            return None
        return Sealed(BlockLocation(block, *taken, next(self._slots.sequences), place.codec), rows, encoded)

    def _empty(self, numbers: Collection[int]) -> None:
        """Drops the blocks in some segments, which are in the way."""
        dropped = {i for i, place in list(self._places.items()) if place.segment in numbers}
        self._replace({}, dropped)
        if dropped:
            self._tell(
                f"{len(dropped)} blocks in {self._segments.folder} are forgotten: others need the segments they lie in."
            )

    def _replace(self, faded: Mapping[int, BlockLocation], dropped: set[int]) -> None:
        """Remembers where blocks lie that have faded, and drops others."""
        self._catalog.commit(faded.values(), {}, dropped)
        # Those that faded first: who looks for one finds it at any moment. Any may be found damaged, and gone, as well.
        self._places |= {i: place for i, place in faded.items() if i in self._places}
        for block_id in dropped:
            self._places.pop(block_id, None)
        self.n_faded += len(faded)
        self.n_dropped += len(dropped)
        self.dropped |= dropped

    def _by_segment(self) -> dict[int, list[BlockLocation]]:
        inside: dict[int, list[BlockLocation]] = {number: [] for number in self._segments.all()}
        for place in list(self._places.values()):
            inside[place.segment].append(place)
        return inside

    def _written_longest_ago(self, inside: Mapping[int, list[BlockLocation]], n_bytes: int) -> list[int]:
        """Returns the segments written to longest ago that have so many bytes together; none if all have less."""
        segments, numbers = self._segments.all(), []
        for number in sorted(inside, key=lambda n: max((place.sequence for place in inside[n]), default=0)):
            numbers.append(number)
            n_bytes -= segments[number].n_bytes
            if n_bytes <= 0:
                return numbers
        return []
