"""The disk tier: blocks in the slots of segment files, found through a catalog, checked whenever they are read.

One thread commits. A block goes through reserve (a free slot, in memory), write, fdatasync and commit (its row);
a crash before the commit leaves a free slot, never half a block. Any thread may read: a slot that has been given to
another block meanwhile shows by its header.
"""

from __future__ import annotations

import errno
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from streamvlm.errors import StoreError
from streamvlm.frame import Fidelity
from streamvlm.memory.arena import slot_bytes
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.memory.catalog import Catalog, Place
from streamvlm.memory.codec import Codec, decode, encode, encoded_bytes
from streamvlm.memory.disk_io import DiskIO
from streamvlm.memory.fade import fade
from streamvlm.memory.segment import Segment
from streamvlm.memory.slot import (
    SlotHeader,
    SlotShape,
    arrived,
    describe,
    unpack_header,
    write_head,
)

SEGMENT_BYTES = 64 << 20
_CLEAR_SHARE = 0.75
"""Of the budget, for clear blocks: the rest is where they fade to."""
_SEGMENTS_A_BUDGET = 8
_PIECE_BYTES = 1 << 17
"""Read in one call: little enough to be checked while the processor's cache still holds it."""
_LONG_RUN_BYTES = 4 << 20


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


T = TypeVar("T")


class DiskStore:
    """Blocks of one stream in a folder.

    Args:
        folder: Where the segments and the catalog lie; there already.
        layout: Shape of a token's keys and values.
        fingerprint: Of the model, at most 16 ASCII characters.
        codec: How new blocks are encoded; those there keep theirs.
        budget_bytes: Most bytes of segment files.
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
        io: DiskIO | None = None,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self._layout, self._fingerprint, self._codec = folder, layout, fingerprint, codec
        self._budget_bytes, self._io, self._tell = budget_bytes, io or DiskIO(), on_event
        self._catalog = Catalog(folder)
        self._segments = dict(open_segments(folder, fingerprint, self._io))
        self._places: dict[int, Place] = {}
        self._free: dict[SlotShape, list[tuple[int, int]]] = defaultdict(list)
        self._n_faded = self._n_dropped = self._n_damaged = 0
        self._quarantined: list[int] = []
        self._dropped: set[int] = set()
        self._take_up()

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
        order = sorted(places, key=_spot)
        for run in _runs(order, _spot):
            segment = self._segments[run[0].segment]
            # Of a long run the kernel's own reading ahead makes a better job.
            if len(run) * segment.shape.n_bytes <= _LONG_RUN_BYTES:
                segment.announce(run[0].slot, len(run))

    def drop_cache(self) -> None:
        """Lets the kernel forget its copies of the segments: the next reading is the disk's own."""
        for segment in self._segments.values():
            segment.drop_cache()

    def load(self, wanted: Sequence[tuple[Place, Tensor]]) -> list[bool]:
        """Reads payloads, neighbours in one go, in the order of the disk.

        Args:
            wanted: Places, and where their payloads go: uint8 buffers of whole pages, as the arena hands them out.

        Returns:
            For each whether it holds its block now: not if the slot is damaged, unreadable, or was reused meanwhile.
        """
        order = sorted(range(len(wanted)), key=lambda i: _spot(wanted[i][0]))
        done = [False] * len(wanted)
        for run in _runs(order, lambda i: _spot(wanted[i][0])):
            n_slots = max(1, _PIECE_BYTES // self._segments[wanted[run[0]][0].segment].shape.n_bytes)
            for piece in (run[at : at + n_slots] for at in range(0, len(run), n_slots)):
                for i, whole in zip(piece, self._load_run([wanted[i] for i in piece]), strict=True):
                    done[i] = whole
        return done

    def rows(self) -> Iterator[tuple[KVBlock, Tensor]]:
        """Index rows (N, sources, D) of all committed blocks, oldest first; damaged blocks are quarantined."""
        for block_id, place in sorted(self._places.items()):
            rows = self._rows(place)
            if rows is None:
                self.quarantine(block_id)
            else:
                yield place.block, rows

    def quarantine(self, block_id: int) -> None:
        """Takes a block that cannot be read out of service; its slot is not used again while this store is open."""
        place = self._places.pop(block_id, None)
        if place is not None:
            self._n_damaged += 1
            self._quarantined.append(block_id)
            self._tell(
                f"block {block_id} ({place.block.start_s:.0f} s) in {self._segments[place.segment].path.name} is "
                "damaged and was taken out of memory"
            )

    def stats(self) -> DiskStats:
        """Counts and bytes as of now."""
        return DiskStats(
            len(self._places), self._file_bytes(), self._budget_bytes, self._n_faded, self._n_dropped, self._n_damaged
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
        """
        if not self._catalog.path.exists():
            # Open files outlive their folder, and would take everything with them when this process ends.
            raise FileNotFoundError(errno.ENOENT, "the folder is gone")
        sealed = []
        for put in puts:
            encoded = encode(self._codec, put.payload)
            taken = self._take(SlotShape.of(put.block, put.rows.nbytes, len(encoded)), put.block)
            if taken is not None:
                sealed.append((Place(put.block, *taken, next(self._sequence), self._codec), put.rows, encoded))
        self._write(sealed)
        quarantined, self._quarantined = self._quarantined, []
        self._catalog.commit([place for place, _, _ in sealed], ends_s, quarantined)
        for place, _, _ in sealed:
            self._places[place.block.id] = place
        return {place.block.id for place, _, _ in sealed}

    def dropped(self) -> set[int]:
        """Ids of blocks dropped for want of room since this was last asked."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    def close(self) -> None:
        """Closes all files."""
        self._catalog.close()
        for segment in self._segments.values():
            segment.close()

    # --- opening ---

    def _take_up(self) -> None:
        """Takes the catalog for true as far as segments bear it out: what has lost its file is dropped."""
        lost = []
        for place in self._catalog.places():
            segment = self._segments.get(place.segment)
            if segment is None or place.slot >= segment.n_slots:
                lost.append(place.block.id)
            else:
                self._places[place.block.id] = place
        if lost:
            self._tell(f"{len(lost)} blocks were forgotten because their segment files in {self.folder} are gone")
            self._catalog.commit([], {}, lost)
        used = {(place.segment, place.slot) for place in self._places.values()}
        for number, segment in self._segments.items():
            self._free[segment.shape] += [(number, s) for s in range(segment.n_slots) if (number, s) not in used]
        self._sequence = count(max((place.sequence for place in self._places.values()), default=0) + 1)

    # --- slots ---

    def _file_bytes(self) -> int:
        return sum(segment.n_bytes for segment in list(self._segments.values()))

    def _take(self, shape: SlotShape, block: KVBlock) -> tuple[int, int] | None:
        """Reserves a slot: a free one, one of a new segment, or one whose block fades or is dropped for it."""
        if not self._free[shape] and not self._add_segment(shape, block.fidelity):
            self._make_room(shape)
        return heapq.heappop(self._free[shape]) if self._free[shape] else None

    def _add_segment(self, shape: SlotShape, fidelity: Fidelity) -> bool:
        share = _CLEAR_SHARE if fidelity is Fidelity.CLEAR else 1.0
        left_bytes = int(self._budget_bytes * share) - self._file_bytes()
        n_slots = min(SEGMENT_BYTES, self._budget_bytes // _SEGMENTS_A_BUDGET, left_bytes) // shape.n_bytes - 1
        if n_slots < 1:
            return False
        number = max(self._segments, default=0) + 1
        path = self.folder / f"seg-{number:06}.kv"
        try:
            segment = Segment.create(path, shape, n_slots, self._fingerprint, self._io)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._budget_bytes = self._file_bytes()
            self._tell(f"the disk of {self.folder} is full: the memory stays at {self._budget_bytes} bytes from now on")
            return False
        self._segments[number] = segment
        self._free[shape] = [(number, slot) for slot in range(n_slots)]
        return True

    def _make_room(self, shape: SlotShape) -> None:
        """Frees slots of a shape: of the older half of its blocks the flattest fade, or are dropped."""
        own = sorted(i for i, place in self._places.items() if self._segments[place.segment].shape == shape)
        older = own[: -(-len(own) // 2)]
        leaving = sorted(older, key=lambda i: self._places[i].block.score)[: -(-len(older) // 4)]
        if not leaving:
            return
        old = [self._places[i] for i in leaving]
        faded = [sealed for place in old if (sealed := self._faded(place)) is not None]
        self._write(faded)
        kept = {place.block.id for place, _, _ in faded}
        self._catalog.commit([place for place, _, _ in faded], {}, [i for i in leaving if i not in kept])
        for place in old:
            del self._places[place.block.id]
            heapq.heappush(self._free[shape], (place.segment, place.slot))
        self._places |= {place.block.id: place for place, _, _ in faded}
        self._n_faded += len(faded)
        self._n_dropped += len(old) - len(faded)
        self._dropped |= set(leaving) - kept
        self._tell(
            f"the memory's {self._budget_bytes} bytes of disk are used up: of the oldest, flattest blocks "
            f"{len(faded)} fade and {len(old) - len(faded)} are forgotten"
        )

    def _faded(self, place: Place) -> tuple[Place, Tensor, Tensor] | None:
        if place.block.fidelity is not Fidelity.CLEAR:
            return None
        buffer = torch.empty(slot_bytes(self._layout.token_bytes * place.block.n_tokens), dtype=torch.uint8)
        rows = self._rows(place)
        if rows is None or not self._load_run([(place, buffer)])[0]:
            return None
        line, payload, rows = fade(place.block, self._payload(place.block, buffer), rows)
        encoded = encode(self._codec, payload)
        shape = SlotShape.of(line, rows.nbytes, len(encoded))
        if not self._free[shape] and not self._add_segment(shape, Fidelity.FUZZY):
            return None
        return Place(line, *heapq.heappop(self._free[shape]), next(self._sequence), self._codec), rows, encoded

    # --- bytes ---

    def _payload(self, block: KVBlock, buffer: Tensor) -> Tensor:
        n_bytes = block.n_tokens * self._layout.token_bytes
        return buffer[:n_bytes].view(self._layout.dtype).view(self._layout.shape(block.n_tokens))

    def _write(self, sealed: list[tuple[Place, Tensor, Tensor]]) -> None:
        """Writes blocks into their slots, neighbours in one go, and makes them durable."""
        sealed.sort(key=lambda one: _spot(one[0]))
        touched = set()
        for run in _runs(sealed, lambda one: _spot(one[0])):
            segment = self._segments[run[0][0].segment]
            buffers = [b for place, rows, encoded in run for b in self._slot(place, rows, encoded, segment.shape)]
            segment.write(run[0][0].slot, buffers)
            touched.add(run[0][0].segment)
        for number in touched:
            self._segments[number].sync()

    def _slot(self, place: Place, rows: Tensor, encoded: Tensor, shape: SlotShape) -> list[memoryview]:
        row_bytes, body = _view(_bytes(rows)), _view(encoded)
        head = bytearray(shape.head_bytes)
        write_head(head, place.block, place.sequence, place.codec, self._fingerprint, row_bytes, body)
        padding = memoryview(bytes(shape.body_bytes - body.nbytes))
        return [memoryview(head), body, *([padding] if padding.nbytes else [])]

    def _rows(self, place: Place) -> Tensor | None:
        """A block's index rows (N, sources, D); None if they cannot be read whole."""
        segment = self._segments[place.segment]
        head = bytearray(segment.shape.head_bytes)
        try:
            segment.read(place.slot, [memoryview(head)])
        except OSError:
            return None
        header = unpack_header(memoryview(head))
        if header is None or not is_of(header, place):
            return None
        described = describe(header, memoryview(head))
        if described is None:
            return None
        data = torch.frombuffer(bytearray(described[1]), dtype=torch.uint8).view(self._layout.dtype)
        return data.view(place.block.n_tokens, -1, self._layout.head_dim)

    def _load_run(self, run: Sequence[tuple[Place, Tensor]]) -> list[bool]:
        """Reads neighbouring slots in one call; whether each is whole and holds the block looked for."""
        segment = self._segments[run[0][0].segment]
        shape = segment.shape
        heads = [bytearray(shape.head_bytes) for _ in run]
        # Raw payloads go where they are wanted; encoded ones are decoded to there.
        bodies = [
            _view(buffer) if place.codec is Codec.RAW else memoryview(bytearray(shape.body_bytes))
            for place, buffer in run
        ]
        buffers = [part for head, body in zip(heads, bodies, strict=True) for part in (memoryview(head), body)]
        try:
            n_read = segment.read(run[0][0].slot, buffers)
        except OSError as error:
            self._tell(f"{segment.path.name} cannot be read ({error.strerror or error})")
            return [False] * len(run)
        return [
            n_read >= (i + 1) * shape.n_bytes and self._arrived(place, heads[i], bodies[i], buffer)
            for i, (place, buffer) in enumerate(run)
        ]

    def _arrived(self, place: Place, head: bytearray, body: memoryview, buffer: Tensor) -> bool:
        if not arrived(memoryview(head), body, place.block.id, place.sequence):
            return False
        if place.codec is not Codec.RAW:
            n_bytes = encoded_bytes(place.codec, self._layout, place.block.n_tokens)
            data = torch.frombuffer(body, dtype=torch.uint8)[:n_bytes]
            decode(place.codec, data, self._payload(place.block, buffer))
        return True


def open_segments(folder: Path, fingerprint: str | None, io: DiskIO) -> Iterator[tuple[int, Segment]]:
    """Opens a folder's segments, numbered.

    Raises:
        StoreError: If one is damaged, or of another model than ``fingerprint``, where that is given.
    """
    for path in sorted(folder.glob("seg-*.kv")):
        segment = Segment(path, io)
        if fingerprint is not None and segment.header.fingerprint != fingerprint:
            segment.close()
            raise StoreError(
                f"{folder} was written by another model ({segment.header.fingerprint}, this one is {fingerprint}); "
                "use that model, or another folder."
            )
        yield int(path.stem.removeprefix("seg-")), segment


def _spot(place: Place) -> tuple[int, int]:
    return place.segment, place.slot


def is_of(header: SlotHeader, place: Place) -> bool:
    """Whether a slot still holds what was put there, and not what came after."""
    return (header.block.id, header.sequence) == (place.block.id, place.sequence)


def _view(data: Tensor) -> memoryview:
    """The bytes of a uint8 tensor in place."""
    array: Any = data.numpy()
    return memoryview(array)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8).flatten()


def _runs(items: Iterable[T], where: Callable[[T], tuple[int, int]]) -> Iterator[list[T]]:
    """Groups items sorted by (segment, slot) into runs of neighbouring slots."""
    run: list[T] = []
    for item in items:
        segment, slot = where(item)
        if run and where(run[-1]) != (segment, slot - 1):
            yield run
            run = []
        run.append(item)
    if run:
        yield run
