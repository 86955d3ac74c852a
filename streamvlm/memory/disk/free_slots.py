"""The free slots, and the making and removing of segments, within a store's budget and a quota."""

from __future__ import annotations

import errno
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from itertools import count

from streamvlm.errors import StoreError
from streamvlm.memory.block import PAGE_BYTES
from streamvlm.memory.disk.catalog import BlockLocation
from streamvlm.memory.disk.quota import DiskQuota
from streamvlm.memory.disk.segment import segment_bytes
from streamvlm.memory.disk.segment_files import SegmentFiles, Spot, spot
from streamvlm.memory.disk.slot import SlotShape
from streamvlm.readable import size

SEGMENT_BYTES = 64 << 20
_SEGMENTS_A_BUDGET = 8


class FreeSlots:
    """The free slots of a store's segments, by their shape; the first of the disk first.

    Args:
        segments: Grow and go here alone.
        used: Places of the blocks that are there: their slots are not free.
        budget_bytes: Most bytes of segment files.
        quota: What this and other stores may take together.
        on_event: Gets a sentence when the disk is full.

    Attributes:
        budget_bytes: Lowered to what there is once the disk is full.
        in_hand: Segments that the commit under way writes to, or has freed slots of.
        sequences: Numbers of the writes to come, each higher than all before.
    """

    def __init__(
        self,
        segments: SegmentFiles,
        used: Collection[BlockLocation],
        budget_bytes: int,
        quota: DiskQuota,
        on_event: Callable[[str], None],
    ) -> None:
        self._segments, self.budget_bytes, self._quota, self._tell = segments, budget_bytes, quota, on_event
        self.in_hand: set[int] = set()
        # Above what a process that was killed wrote and never committed, too: a repair takes the highest.
        highest = max((place.sequence for place in used), default=0)
        self.sequences = count(max(highest + 1, time.time_ns()))
        taken = {spot(place) for place in used}
        self._free: defaultdict[SlotShape, list[Spot]] = defaultdict(list)  # heaps
        for number, segment in sorted(segments.all().items()):
            spots = [(number, slot) for slot in range(segment.n_slots)]
            self._free[segment.shape] += [one for one in spots if one not in taken]

    def begin(self) -> None:
        """Begins a commit: until the next one, blocks in the slots that are given out are not yet in the catalog."""
        self.in_hand.clear()

    def take(self, shape: SlotShape) -> Spot | None:
        """Returns a slot of this shape, if one is free."""
        if not self._free[shape]:
            return None
        taken = heapq.heappop(self._free[shape])
        self.in_hand.add(taken[0])
        return taken

    def give_back(self, place: BlockLocation) -> None:
        """Lets a place's slot be taken again."""
        heapq.heappush(self._free[self._segments.shape_of(place)], spot(place))

    def add(self, shape: SlotShape, share: float) -> bool:
        """Makes a segment within this share of the budget; False if there is no room for one more slot.

        Raises:
            OSError: If the disk cannot be written.
            StoreError: If it does not keep what is written to it.
        """
        left_bytes = min(int(self.budget_bytes * share) - self._segments.n_bytes, self._quota.left_bytes)
        n_slots = self._slots_within(left_bytes, shape)
        return n_slots > 0 and self._quota.take(segment_bytes(shape, n_slots)) and self._make(shape, n_slots)

    def remove(self, numbers: Collection[int]) -> None:
        """Deletes segments that hold no block any more."""
        self._quota.give_back(self._delete(numbers))

    def swap(self, numbers: Collection[int], shape: SlotShape) -> bool:
        """Deletes segments that hold no block any more for one of this shape in their bytes; False if the disk is full.

        Raises:
            OSError: If the disk cannot be written.
            StoreError: If it does not keep what is written to it.
        """
        n_bytes = self._delete(numbers)
        n_slots = self._slots_within(n_bytes, shape)
        self._quota.give_back(n_bytes - segment_bytes(shape, n_slots))  # not first all of it: others might take it
        return self._make(shape, n_slots)

    def _slots_within(self, left_bytes: int, shape: SlotShape) -> int:
        """Returns how many slots the next segment has: several segments make up a budget, however large a slot is."""
        usual_bytes = min(SEGMENT_BYTES, self.budget_bytes // _SEGMENTS_A_BUDGET)
        usual, most = ((n_bytes - PAGE_BYTES) // shape.n_bytes for n_bytes in (usual_bytes, left_bytes))
        return min(max(usual, 1), most)

    def _make(self, shape: SlotShape, n_slots: int) -> bool:
        """Makes a segment that the quota has counted."""
        try:
            spots = self._segments.add(shape, n_slots)
        except (OSError, StoreError) as error:
            self._quota.give_back(segment_bytes(shape, n_slots))
            if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
                raise
            self._tell_full()
            return False
        self._free[shape] = sorted(self._free[shape] + spots)
        return True

    def _tell_full(self) -> None:
        n_bytes = self._segments.n_bytes
        if n_bytes:  # a store that has nothing yet tries again with each block
            self.budget_bytes = n_bytes
            self._tell(f"The disk of {self._segments.folder} is full: the memory stays at {size(n_bytes)} from now on.")

    def _delete(self, numbers: Collection[int]) -> int:
        for shape, spots in self._free.items():
            self._free[shape] = sorted(one for one in spots if one[0] not in numbers)
        return sum(self._segments.remove(number) for number in numbers)
