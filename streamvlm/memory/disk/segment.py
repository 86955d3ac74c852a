"""A segment: one preallocated file of equal slots, each of which holds one block."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from streamvlm.errors import StoreError
from streamvlm.memory.block import PAGE_BYTES
from streamvlm.memory.disk.slot import SlotHeader, SlotShape, unpack_header
from streamvlm.memory.disk.system_calls import SystemCalls

FORMAT_VERSION = 2
PATTERN = "seg-*.kv"
DRAFT_PATTERN = "seg-*.draft"
_MAGIC = b"SVLMSEG1"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """First page of a segment: how to read the rest, and which model's blocks they are."""

    format_version: int
    fingerprint: str
    head_bytes: int
    body_bytes: int
    n_slots: int

    @property
    def shape(self) -> SlotShape:
        """Of the slots."""
        return SlotShape(self.head_bytes, self.body_bytes)


class Segment:
    """An open segment file.

    Args:
        path: The file, there already.
        io: How it is read and written.

    Attributes:
        close: Closes the file; when the last reader has let go of the segment, that happens by itself.

    Raises:
        StoreError: If it is no segment, or one of another format version.
        OSError: If it cannot be opened or read.
    """

    def __init__(self, path: Path, io: SystemCalls) -> None:
        self.path, self._io = path, io
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.close = weakref.finalize(self, os.close, self._fd)
        try:
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise
        self.shape, self._slot_bytes = self.header.shape, self.header.shape.n_bytes
        self.n_slots = self.header.n_slots

    @classmethod
    def create(cls, path: Path, shape: SlotShape, n_slots: int, fingerprint: str, io: SystemCalls) -> Segment:
        """Makes the file with all its bytes reserved, or leaves nothing behind.

        It gets its name last, so that a process killed here leaves a draft and no segment.

        Raises:
            OSError: If there is no room or no right to.
            StoreError: If its first page does not read as it was written.
        """
        header = SegmentHeader(FORMAT_VERSION, fingerprint, shape.head_bytes, shape.body_bytes, n_slots)
        text = json.dumps(asdict(header)).encode("ascii")
        page = (_MAGIC + xxhash.xxh3_64_digest(text) + len(text).to_bytes(2, "little") + text).ljust(PAGE_BYTES, b"\0")
        draft = path.with_suffix(".draft")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            io.reserve(fd, segment_bytes(shape, n_slots))
            io.write(fd, [memoryview(page)], 0)
            io.sync(fd)
            draft.rename(path)
            _sync_folder(path.parent)
            return cls(path, io)
        except BaseException:
            draft.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    @property
    def n_bytes(self) -> int:
        """Length of the file."""
        return segment_bytes(self.shape, self.n_slots)

    def write(self, first_slot: int, buffers: Sequence[memoryview]) -> None:
        """Writes whole slots from ``first_slot`` on, one behind the other."""
        self._io.write(self._fd, buffers, self._offset(first_slot))

    def read(self, first_slot: int, buffers: Sequence[memoryview]) -> int:
        """Reads whole slots from ``first_slot`` on into the buffers; returns the bytes read."""
        return self._io.read(self._fd, buffers, self._offset(first_slot))

    def announce(self, first_slot: int, n_slots: int) -> None:
        """Tells the kernel that these slots will be read, so that they come while others are worked on."""
        length = n_slots * self._slot_bytes
        os.posix_fadvise(self._fd, self._offset(first_slot), length, os.POSIX_FADV_WILLNEED)

    def drop_cache(self) -> None:
        """Lets the kernel forget its copies of what has been read or synced."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Makes what was written durable."""
        self._io.sync(self._fd)

    def header_of(self, slot: int) -> SlotHeader | None:
        """Returns a slot's header; None if it is free, damaged, or of another model."""
        page = bytearray(PAGE_BYTES)
        if self.read(slot, [memoryview(page)]) < PAGE_BYTES:
            return None
        header = unpack_header(memoryview(page))
        return header if header is not None and header.fingerprint == self.header.fingerprint else None

    def _offset(self, slot: int) -> int:
        return PAGE_BYTES + slot * self._slot_bytes

    def _read_header(self) -> SegmentHeader:
        page = bytearray(PAGE_BYTES)
        self._io.read(self._fd, [memoryview(page)], 0)
        n_bytes = int.from_bytes(page[16:18], "little")
        text = bytes(page[18 : 18 + n_bytes])
        if page[:8] != _MAGIC or xxhash.xxh3_64_digest(text) != page[8:16]:
            raise StoreError(f"{self.path} is no segment of a memory, or its first page is damaged; move it away.")
        fields = json.loads(text)
        if fields["format_version"] != FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format version {fields['format_version']} and this is version {FORMAT_VERSION}; "
                "use the release of StreamVLM that wrote it."
            )
        return SegmentHeader(**fields)


def segment_bytes(shape: SlotShape, n_slots: int) -> int:
    """Returns the length of a segment's file."""
    return PAGE_BYTES + shape.n_bytes * n_slots


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
