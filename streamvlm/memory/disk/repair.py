"""Checks a store on disk, and makes a lost catalog anew, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from streamvlm.errors import StoreError
from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk.catalog import NAME, BlockLocation, Catalog
from streamvlm.memory.disk.segment import Segment
from streamvlm.memory.disk.segment_files import is_entry_of, is_of, open_segments
from streamvlm.memory.disk.slot import SlotHeader, describe, holds_payload
from streamvlm.memory.disk.system_calls import SystemCalls


def repair(folder: Path, io: SystemCalls | None = None) -> tuple[int, int]:
    """Makes the catalog anew from the segments alone; the old one stays beside it as ``catalog.db.old``.

    A block that was forgotten for want of room and not written over yet is remembered again: slots tell no difference.

    Returns:
        How many blocks were found whole, and how many damaged or unreadable slots were left out.

    Raises:
        StoreError: If there are no segments, or the first page of one is damaged or cannot be read.
    """
    best: dict[int, BlockLocation] = {}
    n_damaged = 0
    with _opened(folder, io) as segments:
        if not segments:
            raise StoreError(f"{folder} holds no segments of a memory; check the path.")
        for number, segment in segments.items():
            for slot, header, block in _blocks(segment):
                if header is None or block is None:
                    n_damaged += 1
                elif block.id not in best or best[block.id].sequence < header.sequence:
                    best[block.id] = BlockLocation(block, number, slot, header.sequence, header.codec)
    with TemporaryDirectory(dir=folder, prefix="repair-") as draft:
        catalog = Catalog(Path(draft))
        catalog.commit(best.values(), {}, [])
        catalog.close()
        for suffix in ("", "-wal", "-shm"):
            path = folder / f"{NAME}{suffix}"
            if path.exists():
                path.rename(folder / f"{NAME}.old{suffix}")
        catalog.path.rename(folder / NAME)
    return len(best), n_damaged


def check_blocks(folder: Path, io: SystemCalls | None = None) -> tuple[int, list[KVBlock]]:
    """Reads every block of a folder without a model: how many are whole, and those that are not.

    Raises:
        StoreError: If the catalog or a segment's first page is damaged or cannot be read.
    """
    with closing(Catalog(folder)) as catalog, _opened(folder, io) as segments:
        places = catalog.places()
        damaged = [place.block for place in places if not _holds(segments.get(place.segment), place)]
    return len(places) - len(damaged), damaged


@contextmanager
def _opened(folder: Path, io: SystemCalls | None) -> Iterator[dict[int, Segment]]:
    segments = open_segments(folder, None, io or SystemCalls())
    try:
        yield segments
    finally:
        for segment in segments.values():
            segment.close()


def _blocks(segment: Segment) -> Iterator[tuple[int, SlotHeader | None, KVBlock | None]]:
    """Yields of every slot that is not free its header, and its block if that is whole; None if unreadable."""
    for slot in range(segment.n_slots):
        header = block = None
        try:
            if (header := segment.header_of(slot)) is None:
                continue
            block = _whole_block(segment, slot, header)
        except OSError:
            pass  # it counts as damaged
        yield slot, header, block


def _holds(segment: Segment | None, place: BlockLocation) -> bool:
    """Whether a block is where the catalog says, can be read, and is whole."""
    try:
        header = segment.header_of(place.slot) if segment is not None else None
        if segment is None or header is None or not is_of(header, place):
            return False
        block = _whole_block(segment, place.slot, header)
    except OSError:
        return False
    return block is not None and is_entry_of(block, place)


def _whole_block(segment: Segment, slot: int, header: SlotHeader) -> KVBlock | None:
    """Returns the block if the slot holds all that was written."""
    head, body = bytearray(segment.shape.head_bytes), bytearray(segment.shape.body_bytes)
    segment.read(slot, [memoryview(head), memoryview(body)])
    described = describe(header, memoryview(head))
    return described[0] if described and holds_payload(header, memoryview(body)) else None
