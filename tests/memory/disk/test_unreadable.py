"""A disk that refuses to read for a while costs nothing for good, and looking at it ends in no traceback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from errno import EIO
from pathlib import Path

import pytest
import torch
from breakable_disk import LAYOUT, BrokenIO, put

from streamvlm.errors import StoreError
from streamvlm.memory.block import PAGE_BYTES, whole_pages
from streamvlm.memory.disk.repair import check_blocks, repair
from streamvlm.memory.disk.store import DiskStore
from streamvlm.memory.disk.system_calls import SystemCalls

N_BLOCKS = 6


class BadSpot(SystemCalls):
    """Refuses every read of the bytes from ``start`` to ``stop`` of any file."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if offset < self.stop and offset + sum(buffer.nbytes for buffer in buffers) > self.start:
            raise OSError(EIO, os.strerror(EIO))
        return super().read(fd, buffers, offset)


def opened(folder: Path, io: SystemCalls | None = None, events: list[str] | None = None) -> DiskStore:
    tell = (lambda text: None) if events is None else events.append
    return DiskStore(folder, LAYOUT, "m", budget_bytes=8 << 20, io=io, on_event=tell)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(opened(tmp_path)) as store:
        store.commit([put(i) for i in range(N_BLOCKS)], {})
    return tmp_path


def slot_of(folder: Path, block_id: int) -> BadSpot:
    """A disk on which a block's slot is bad."""
    with closing(opened(folder)) as store:
        place = store.locate(block_id)
        assert place is not None
        n_bytes = PAGE_BYTES + whole_pages(LAYOUT.token_bytes * place.block.n_tokens)
        return BadSpot(PAGE_BYTES + place.slot * n_bytes, PAGE_BYTES + (place.slot + 1) * n_bytes)


def test_a_block_that_cannot_be_read_at_opening_is_back_when_the_disk_is(folder: Path) -> None:
    events: list[str] = []
    with closing(opened(folder, slot_of(folder, 2), events)) as store:
        assert [block.id for block, _ in store.rows()] == [0, 1, 3, 4, 5]
        assert store.locate(2) is None
        assert store.commit([put(N_BLOCKS)], {}) == {N_BLOCKS}
        assert store.stats().n_damaged == 0
    assert any("cannot be read (Input/output error)" in event for event in events)
    assert not any("damaged" in event for event in events)
    with closing(opened(folder)) as store:
        assert [block.id for block, _ in store.rows()] == list(range(N_BLOCKS + 1))
    assert check_blocks(folder) == (N_BLOCKS + 1, [])


def test_a_block_that_cannot_be_read_when_it_is_wanted_is_back_when_the_disk_is(folder: Path) -> None:
    with closing(opened(folder, slot_of(folder, 2))) as store:
        place = store.locate(2)
        assert place is not None
        buffer = torch.zeros(whole_pages(LAYOUT.token_bytes * place.block.n_tokens), dtype=torch.uint8)
        assert store.load([(place, buffer)]) == [False]
        store.quarantine(2)
        assert store.locate(2) is None
        store.commit([put(N_BLOCKS)], {})
    assert check_blocks(folder) == (N_BLOCKS + 1, [])


def test_verify_and_repair_count_what_cannot_be_read(folder: Path) -> None:
    bad = slot_of(folder, 2)
    n_whole, damaged = check_blocks(folder, bad)
    assert (n_whole, [block.id for block in damaged]) == (N_BLOCKS - 1, [2])
    assert repair(folder, bad) == (N_BLOCKS - 1, 1)
    bad.start += PAGE_BYTES  # the header can be read, the payload cannot
    assert repair(folder, bad) == (N_BLOCKS - 1, 1)
    assert repair(folder) == (N_BLOCKS, 0)


def test_a_segment_that_cannot_be_read_at_all_is_one_sentence(folder: Path) -> None:
    for look in (opened, check_blocks, repair):
        with pytest.raises(StoreError, match=r"seg-000001.kv cannot be read \(Input/output error\)"):
            look(folder, BrokenIO("eio"))


def test_a_file_that_only_looks_like_a_segment_is_one_sentence(folder: Path) -> None:
    stray = folder / "seg-000001 (copy).kv"
    stray.write_bytes((folder / "seg-000001.kv").read_bytes())
    for look in (opened, check_blocks, repair):
        with pytest.raises(StoreError, match=r"\(copy\).kv has no segment's name"):
            look(folder)
    stray.unlink()
    assert check_blocks(folder) == (N_BLOCKS, [])
