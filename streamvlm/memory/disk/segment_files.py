"""The open segments of a folder: blocks are written to and read from given places, neighbours in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from streamvlm.errors import StoreError
from streamvlm.memory.block import BlockLayout, KVBlock, whole_pages
from streamvlm.memory.disk.catalog import BlockLocation
from streamvlm.memory.disk.codec import Codec, decode, encoded_bytes
from streamvlm.memory.disk.segment import DRAFT_PATTERN, PATTERN, Segment
from streamvlm.memory.disk.slot import SlotHeader, SlotShape, arrived, describe, unpack_header, write_head
from streamvlm.memory.disk.system_calls import SystemCalls

_PIECE_BYTES = 1 << 17
"""Read in one call: little enough to be checked while the processor's cache still holds it."""
_LONG_RUN_BYTES = 4 << 20


class Sealed(NamedTuple):
    """A block on its way to its place: index rows (N, sources, D) and encoded payload, of any shape and dtype."""

    place: BlockLocation
    rows: Tensor
    encoded: Tensor


Spot = tuple[int, int]
"""Number of a segment, and of a slot in it."""

T = TypeVar("T")


class SegmentFiles:
    """The segments of one model's blocks in a folder.

    Args:
        folder: Where they lie.
        layout: Shape of a token's keys and values.
        fingerprint: Of the model.
        io: How files are read and written.
        on_event: Gets a sentence about what cannot be read.

    Attributes:
        n_bytes: Bytes of all files.
        unread: Segments and slots that the disk refused to read: what they hold may be whole all the same.

    Raises:
        StoreError: If a segment is damaged, cannot be read, or is of another model.
    """

    def __init__(
        self, folder: Path, layout: BlockLayout, fingerprint: str, io: SystemCalls, on_event: Callable[[str], None]
    ) -> None:
        self.folder, self._layout, self._fingerprint = folder, layout, fingerprint
        self._io, self._tell = io, on_event
        self.unread: set[tuple[int, int]] = set()
        for draft in folder.glob(DRAFT_PATTERN):
            draft.unlink()  # of a process that was killed while it made a segment
        self._segments = open_segments(folder, fingerprint, io)
        self.n_bytes = sum(segment.n_bytes for segment in self._segments.values())
        self._numbers = count(max(self._segments, default=0) + 1)  # never one again: readers may still look for the old

    def all(self) -> dict[int, Segment]:
        """Returns the segments by their numbers, as of now."""
        return dict(self._segments)

    def holds(self, place: BlockLocation) -> bool:
        """Whether there is such a slot."""
        segment = self._segments.get(place.segment)
        return segment is not None and 0 <= place.slot < segment.n_slots

    def shape_of(self, place: BlockLocation) -> SlotShape:
        """Returns the shape of a place's slot."""
        return self._segments[place.segment].shape

    def name_of(self, place: BlockLocation) -> str:
        """Returns the name of a place's file."""
        return _name(place.segment)

    def add(self, shape: SlotShape, n_slots: int) -> list[Spot]:
        """Makes one more segment and returns its slots.

        Raises:
            OSError: If there is no room or no right to; nothing is left behind.
            StoreError: If it does not read as it was written; likewise.
        """
        number = next(self._numbers)
        path = self.folder / _name(number)
        segment = self._segments[number] = Segment.create(path, shape, n_slots, self._fingerprint, self._io)
        self.n_bytes += segment.n_bytes
        return [(number, slot) for slot in range(n_slots)]

    def remove(self, number: int) -> int:
        """Deletes a segment, and returns how many bytes it had; who is reading it now may read to the end."""
        segment = self._segments.pop(number)
        self.n_bytes -= segment.n_bytes
        segment.path.unlink()
        return segment.n_bytes

    def announce(self, places: Iterable[BlockLocation]) -> None:
        """Lets the kernel start to read these blocks now, while others are still worked on."""
        for run in _runs(sorted(places, key=spot), spot):
            segment = self._segments.get(run[0].segment)
            # Of a long run the kernel's own reading ahead makes a better job.
            if segment is not None and len(run) * segment.shape.n_bytes <= _LONG_RUN_BYTES:
                segment.announce(run[0].slot, len(run))

    def drop_cache(self) -> None:
        """Lets the kernel forget its copies of the segments: the next reading is the disk's own."""
        for segment in self.all().values():
            segment.drop_cache()

    def write(self, sealed: Iterable[Sealed]) -> None:
        """Writes blocks into their slots and makes them durable; OSError if the disk cannot."""
        touched = set()
        for run in _runs(sorted(sealed, key=lambda one: spot(one.place)), lambda one: spot(one.place)):
            number, first_slot = spot(run[0].place)
            segment = self._segments[number]
            segment.write(first_slot, [buffer for one in run for buffer in self._slot(one, segment.shape)])
            touched.add(number)
        for number in touched:
            self._segments[number].sync()

    def load(self, wanted: Sequence[tuple[BlockLocation, Tensor]]) -> list[bool]:
        """Reads payloads, in the order of the disk; see ``DiskStore.load``."""
        order = sorted(range(len(wanted)), key=lambda i: spot(wanted[i][0]))
        done = [False] * len(wanted)
        for run in _runs(order, lambda i: spot(wanted[i][0])):
            segment = self._segments.get(wanted[run[0]][0].segment)
            n_slots = max(1, _PIECE_BYTES // segment.shape.n_bytes) if segment is not None else len(run)
            for piece in (run[at : at + n_slots] for at in range(0, len(run), n_slots)):
                for i, whole in zip(piece, self._load_run([wanted[i] for i in piece]), strict=True):
                    done[i] = whole
        return done

    def payload(self, place: BlockLocation) -> Tensor | None:
        """Returns a block's payload (L, 2, K, N, D); None if it cannot be read whole."""
        buffer = torch.empty(whole_pages(self._layout.token_bytes * place.block.n_tokens), dtype=torch.uint8)
        return self._view(place.block, buffer) if self._load_run([(place, buffer)])[0] else None

    def rows(self, place: BlockLocation) -> Tensor | None:
        """Returns a block's index rows (N, sources, D); None if they are not whole, or belong to another entry."""
        segment = self._segments.get(place.segment)
        if segment is None:
            return None
        head = bytearray(segment.shape.head_bytes)
        try:
            segment.read(place.slot, [memoryview(head)])
        except OSError as error:
            self._note_unread([place], error)
            return None
        header = unpack_header(memoryview(head))
        if header is None or not is_of(header, place):
            return None
        described = describe(header, memoryview(head))
        if described is None or not is_entry_of(described[0], place):
            return None
        data = torch.frombuffer(bytearray(described[1]), dtype=torch.uint8).view(self._layout.dtype)
        return data.view(place.block.n_tokens, -1, self._layout.head_dim)

    def close(self) -> None:
        """Closes all files."""
        for segment in self._segments.values():
            segment.close()

    def _slot(self, sealed: Sealed, shape: SlotShape) -> list[memoryview]:
        place, rows, body = sealed.place, _bytes(sealed.rows), _bytes(sealed.encoded)
        head = bytearray(shape.head_bytes)
        write_head(head, place.block, place.sequence, place.codec, self._fingerprint, rows, body)
        padding = memoryview(bytes(shape.body_bytes - body.nbytes))
        return [memoryview(head), body, *([padding] if padding.nbytes else [])]

    def _view(self, block: KVBlock, buffer: Tensor) -> Tensor:
        n_bytes = block.n_tokens * self._layout.token_bytes
        return buffer[:n_bytes].view(self._layout.dtype).view(self._layout.shape(block.n_tokens))

    def _load_run(self, run: Sequence[tuple[BlockLocation, Tensor]]) -> list[bool]:
        """Reads neighbouring slots in one call; returns whether each is whole and holds the block looked for."""
        segment = self._segments.get(run[0][0].segment)
        if segment is None:
            return [False] * len(run)
        shape = segment.shape
        heads = [bytearray(shape.head_bytes) for _ in run]
        # Raw payloads go where they are wanted; encoded ones are decoded to there.
        bodies = [
            _bytes(buffer) if place.codec is Codec.RAW else memoryview(bytearray(shape.body_bytes))
            for place, buffer in run
        ]
        buffers = [part for head, body in zip(heads, bodies, strict=True) for part in (memoryview(head), body)]
        try:
            n_read = segment.read(run[0][0].slot, buffers)
        except OSError as error:
            self._note_unread([place for place, _ in run], error)
            return [False] * len(run)
        return [
            n_read >= (i + 1) * shape.n_bytes and self._arrived(place, heads[i], bodies[i], buffer)
            for i, (place, buffer) in enumerate(run)
        ]

    def _note_unread(self, places: Sequence[BlockLocation], error: OSError) -> None:
        self.unread.update(spot(place) for place in places)
        self._tell(f"{self.name_of(places[0])} cannot be read ({error.strerror or error})")

    def _arrived(self, place: BlockLocation, head: bytearray, body: memoryview, buffer: Tensor) -> bool:
        if not arrived(memoryview(head), body, place.block.id, place.sequence):
            return False
        if place.codec is not Codec.RAW:
            n_bytes = encoded_bytes(place.codec, self._layout, place.block.n_tokens)
            data = torch.frombuffer(body, dtype=torch.uint8)[:n_bytes]
            decode(place.codec, data, self._view(place.block, buffer))
        return True


def open_segments(folder: Path, fingerprint: str | None, io: SystemCalls) -> dict[int, Segment]:
    """Opens a folder's segments, numbered; all of them, or none.

    Raises:
        StoreError: If one is damaged, cannot be read, or is of another model than ``fingerprint``, where that is given.
    """
    with ExitStack() as opened:
        segments: dict[int, Segment] = {}
        for path in sorted(folder.glob(PATTERN)):
            number = path.stem.removeprefix("seg-")
            if not number.isdecimal():
                raise StoreError(f"{path} has no segment's name; move it away.")
            try:
                segment = Segment(path, io)
            except OSError as error:
                raise StoreError(f"{path} cannot be read ({error.strerror or error}); see to its disk.") from error
            opened.callback(segment.close)
            if fingerprint is not None and segment.header.fingerprint != fingerprint:
                raise StoreError(
                    f"{folder} was written by another model ({segment.header.fingerprint}, this one is {fingerprint}); "
                    "use that model, or another folder."
                )
            segments[int(number)] = segment
        opened.pop_all()
    return segments


def _name(number: int) -> str:
    return f"seg-{number:06}.kv"


def spot(place: BlockLocation) -> Spot:
    """Returns where a block lies, in the order of the disk."""
    return place.segment, place.slot


def is_of(header: SlotHeader, place: BlockLocation) -> bool:
    """Whether a slot still holds what was put there, and not what came after."""
    return (header.block.id, header.sequence, header.codec) == (place.block.id, place.sequence, place.codec)


def is_entry_of(block: KVBlock, place: BlockLocation) -> bool:
    """Whether a slot's entry is the catalog's, which has no checksums: all but the end, which only ever moves on."""
    return block == replace(place.block, end_s=block.end_s) and block.end_s <= place.block.end_s


def _bytes(tensor: Tensor) -> memoryview:
    """Returns the bytes of a tensor, in place if it is contiguous."""
    array: Any = tensor.contiguous().view(torch.uint8).flatten().numpy()
    return memoryview(array)


def _runs(items: Iterable[T], where: Callable[[T], Spot]) -> Iterator[list[T]]:
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
