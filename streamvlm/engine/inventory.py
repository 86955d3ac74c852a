"""Looks at a memory on disk without a model: what it holds, and whether all of it is whole."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamvlm.engine.archive import ArchiveCard, locked, read_card
from streamvlm.engine.diary import Diary, Said
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.memory.catalog import Catalog
from streamvlm.memory.mend import check_blocks
from streamvlm.memory.segment import PATTERN

_MOST_SPOKEN = 20


@dataclass(frozen=True, slots=True)
class Stock:
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
    dialogue: list[Said]


def take_stock(folder: Path) -> Stock:
    """Counts what a memory holds, also while a stream is writing it.

    Raises:
        StoreError: If it is no memory, or damaged.
    """
    card = read_card(folder)
    with closing(Catalog(folder)) as catalog, closing(Diary(folder)) as diary:
        places = catalog.places()
        lines = [place.block for place in places]
        files = [path.stat().st_size for path in folder.glob(PATTERN)]
        return Stock(
            card=card,
            n_blocks=len(lines),
            n_clear=sum(line.fidelity is Fidelity.CLEAR for line in lines),
            codecs=dict(Counter(str(place.codec) for place in places)),
            start_s=lines[0].start_s if lines else 0.0,
            end_s=max([diary.time_s() or 0.0, *(line.end_s for line in lines[-1:])]),
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
        return check_blocks(folder)
