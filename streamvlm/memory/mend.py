"""Checks a store on disk, and makes a lost catalog anew, without a model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from streamvlm.errors import StoreError
from streamvlm.memory.block import KVBlock
from streamvlm.memory.catalog import NAME, Catalog, Place
from streamvlm.memory.disk_io import DiskIO
from streamvlm.memory.segment import Segment
from streamvlm.memory.segment_set import is_line_of, is_of, open_segments
from streamvlm.memory.slot import SlotHeader, describe, holds_payload


def repair(folder: Path, io: DiskIO | None = None) -> tuple[int, int]:
    """Makes the catalog anew from the segments alone; the old one stays beside it as ``catalog.db.old``.

    Returns:
        How many blocks were found whole, and how many damaged slots were left out.

    Raises:
        StoreError: If there are no segments.
    """
    io = io or DiskIO()
    segments = dict(open_segments(folder, None, io))
    if not segments:
        raise StoreError(f"{folder} holds no segments of a memory; check the path.")
    best: dict[int, Place] = {}
    n_damaged = 0
    for number, segment in segments.items():
        for slot, header in segment.headers():
            known = best.get(header.block.id)
            block = _whole_block(segment, slot, header)
            if block is None:
                n_damaged += 1
            elif known is None or known.sequence < header.sequence:
                best[block.id] = Place(block, number, slot, header.sequence, header.codec)
        segment.close()
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


def check_blocks(folder: Path) -> tuple[int, list[KVBlock]]:
    """Reads every block of a folder without a model: how many are whole, and the lines of those that are not.

    Raises:
        StoreError: If the catalog or a segment's first page is damaged.
    """
    io = DiskIO()
    catalog = Catalog(folder)
    segments = dict(open_segments(folder, None, io))
    damaged, places = [], catalog.places()
    for place in places:
        segment = segments.get(place.segment)
        header = segment.header_of(place.slot) if segment is not None else None
        line = _whole_block(segment, place.slot, header) if segment and header and is_of(header, place) else None
        if line is None or not is_line_of(line, place):
            damaged.append(place.block)
    catalog.close()
    for segment in segments.values():
        segment.close()
    return len(places) - len(damaged), damaged


def _whole_block(segment: Segment, slot: int, header: SlotHeader) -> KVBlock | None:
    """The block's line if the slot holds all that was written, and can be read."""
    head, body = bytearray(segment.shape.head_bytes), bytearray(segment.shape.body_bytes)
    try:
        segment.read(slot, [memoryview(head), memoryview(body)])
    except OSError:
        return None
    described = describe(header, memoryview(head))
    return described[0] if described and holds_payload(header, memoryview(body)) else None
