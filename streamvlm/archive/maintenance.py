"""Reads a memory on disk without a model: counts what it holds, checks that all of it is whole, repairs it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamvlm.archive.archive import ArchiveCard, locked, read_card
from streamvlm.archive.diary import AnsweredQuestion, Diary, FrameRecord, read_decisions
from streamvlm.errors import StoreError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk import repair as mend
from streamvlm.memory.disk.catalog import Catalog
from streamvlm.memory.disk.segment import PATTERN

_MOST_SPOKEN = 20


@dataclass(frozen=True, slots=True)
class MemoryInventory:
    """What a memory holds; times in seconds of its stream."""

    card: ArchiveCard
    n_blocks: int
    n_clear: int
    codecs: dict[str, int]
    start_s: float
    end_s: float
    n_segments: int
    file_bytes: int
    entries: dict[str, int]
    dialogue: list[AnsweredQuestion]


def take_inventory(folder: Path) -> MemoryInventory:
    """Counts what a memory holds, also while a stream is writing it.

    Raises:
        StoreError: If it is no memory, or damaged.
    """
    card = read_card(folder)
    with closing(Catalog(folder)) as catalog, closing(Diary(folder)) as diary:
        places = catalog.places()
        blocks = [place.block for place in places]
        files = [path.stat().st_size for path in folder.glob(PATTERN)]
        return MemoryInventory(
            card=card,
            n_blocks=len(blocks),
            n_clear=sum(block.fidelity is Fidelity.CLEAR for block in blocks),
            codecs=dict(Counter(str(place.codec) for place in places)),
            start_s=blocks[0].start_s if blocks else 0.0,
            end_s=max([diary.time_s() or 0.0, *(block.end_s for block in blocks[-1:])]),
            n_segments=len(files),
            file_bytes=sum(files),
            entries=diary.counts(),
            dialogue=diary.dialogue(_MOST_SPOKEN),
        )


def verify(folder: Path) -> tuple[int, list[KVBlock]]:
    """Reads every block of a memory: how many are whole, and which are not.

    Raises:
        StoreError: If it is no memory, damaged as a whole, or in use.
    """
    read_card(folder)
    with locked(folder):
        return mend.check_blocks(folder)


def repair(folder: Path, *, on_event: Callable[[str], None]) -> tuple[int, int]:
    """Makes a memory's catalog anew from its segments, and the ends of its blocks from the gate's log.

    Args:
        folder: The memory.
        on_event: Gets a sentence if the log cannot be read.

    Returns:
        How many blocks were found whole, and how many damaged or unreadable slots were left out.

    Raises:
        StoreError: If it is no memory, in use, or has no segments that can be read.
    """
    read_card(folder)
    with locked(folder):
        counts = mend.repair(folder)
        try:
            decided = read_decisions(folder, 0.0, math.inf)
        except StoreError as error:
            on_event(
                f"blocks stand for the frame they were made of and none that followed, for want of the log: {error}"
            )
            return counts
        with closing(Catalog(folder)) as catalog:
            catalog.commit([], _ends_s([place.block for place in catalog.places()], decided), [])
        return counts


def _ends_s(blocks: Sequence[KVBlock], decided: Sequence[FrameRecord]) -> dict[int, float]:
    """Returns the ends of blocks that are later: each stands until the last frame discarded before another was kept."""
    known = {block.start_s: block for block in blocks}
    # Of some kept frames only the block is left, of others only the decision.
    kept_s = {*known, *(one.time_s for one in decided if one.fidelity != Fidelity.DISCARDED)}
    ends_s: dict[int, float] = {}
    standing = None
    for time_s in sorted({*kept_s, *(one.time_s for one in decided)}):
        if time_s in kept_s:
            standing = known.get(time_s)
        elif standing is not None and time_s > standing.end_s:
            ends_s[standing.id] = time_s
    return ends_s
