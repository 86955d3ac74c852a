"""Writing behind: nothing is later than promised, and a dead disk does not stop the stream."""

from __future__ import annotations

import errno
import math
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from breakable_disk import CLEAR_TOKENS, FUZZY_TOKENS, LAYOUT, BrokenIO, content, put
from torch import Tensor

from streamvlm.archive.diary import Diary, FrameRecord
from streamvlm.archive.write_behind import WriteBehind
from streamvlm.memory.block import whole_pages
from streamvlm.memory.disk.store import DiskStore
from streamvlm.memory.disk.system_calls import SystemCalls
from streamvlm.memory.hierarchy import BlockMemory

SLOT_BYTES = whole_pages(13 * LAYOUT.token_bytes)


class Disk:
    """A store with its writer in a folder, and what it has told."""

    def __init__(
        self, folder: Path, io: SystemCalls | None = None, flush_every_s: float = 2.0, budget_bytes: int = 64 << 20
    ) -> None:
        self.events: list[str] = []
        self.diary = Diary(folder)
        self.store = DiskStore(folder, LAYOUT, "m", budget_bytes=budget_bytes, io=io, on_event=self.events.append)
        self.writer = WriteBehind(self.store, self.diary, flush_every_s=flush_every_s, on_event=self.events.append)

    def memory(self, host_slots: int = 12, on_forget: Callable[[list[int]], None] = lambda ids: None) -> BlockMemory:
        return BlockMemory(
            LAYOUT,
            device="cpu",
            device_budget_bytes=0,
            host_budget_bytes=host_slots * SLOT_BYTES,
            on_forget=on_forget,
            disk=self.writer,
        )

    def close(self) -> None:
        self.writer.close()
        self.store.close()
        self.diary.close()


def watch(memory: BlockMemory, ids: range, n_tokens: int = CLEAR_TOKENS) -> None:
    for i in ids:
        one = put(i, n_tokens)
        block = memory.append(
            one.payload, start_s=float(i), fidelity=one.block.fidelity, score=one.block.score, rows=one.rows
        )
        assert block.id == i
        memory.table.window_start = max(0, i - 3)


class HeldIO(SystemCalls):
    """Does not write before it is told to."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        assert self.let_go.wait(60)
        super().write(fd, buffers, offset)


def test_what_has_left_the_host_comes_back_from_disk_to_the_bit(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    memory = disk.memory(host_slots=12)
    watch(memory, range(100))
    assert memory.stats().n_blocks == 100
    assert memory.stats().n_forgotten == 0
    assert memory.stats().host_bytes <= 12 * SLOT_BYTES
    for ids in ([0, 50, 99], list(range(100)), [7, 7, 3]):
        for block_id, payload in zip(ids, memory.fetch(ids), strict=True):
            assert torch.equal(payload, content(block_id))
    disk.close()


def test_another_process_goes_on_with_all_of_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    watch(disk.memory(), range(30))
    disk.close()
    again = Disk(tmp_path)
    memory = again.memory()
    assert [block.id for block in memory.table.snapshot()] == list(range(30))
    watch(memory, range(30, 40))
    for block_id, payload in enumerate(memory.fetch(range(40))):
        assert torch.equal(payload, content(block_id))
    again.close()


def test_ends_and_entries_are_written_too(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    memory = disk.memory()
    watch(memory, range(3))
    memory.extend(8.5)
    disk.writer.note(FrameRecord(8.5, "discarded", 0.1))
    disk.close()
    again = Disk(tmp_path)
    assert again.memory().table.snapshot()[-1].end_s == 8.5
    assert again.diary.time_s() == 8.5
    again.close()


@pytest.mark.parametrize("fault", ["torn", "sync", "read-only", "vanished"])
def test_a_dead_disk_is_told_once_and_the_stream_goes_on_in_ram(tmp_path: Path, fault: str) -> None:
    io = BrokenIO()
    disk = Disk(tmp_path, io)
    memory = disk.memory(host_slots=12)
    watch(memory, range(20))
    memory.flush()
    io.breaks = fault
    if fault == "vanished":
        shutil.rmtree(tmp_path)
    watch(memory, range(20, 60))
    assert disk.writer._failed
    assert len(disk.events) == 1
    assert "goes on in RAM alone" in disk.events[0]
    stats = memory.stats()
    assert stats.n_forgotten == 60 - stats.n_blocks > 0, "without a disk the host forgets again"
    known = [block.id for block in memory.table.snapshot()]
    assert known[:20] == list(range(20)), "what the disk already has can still be read"
    for block_id, payload in zip(known, memory.fetch(known), strict=True):
        assert torch.equal(payload, content(block_id))
    disk.close()
    if fault != "vanished":
        again = Disk(tmp_path)
        assert len(again.store.blocks()) >= 20
        again.close()


class FullIO(SystemCalls):
    """Fails once something had to be dropped, before that is settled."""

    def __init__(self) -> None:
        self.is_full: Callable[[], bool] = lambda: False

    def sync(self, fd: int) -> None:
        if self.is_full():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(fd)


def test_what_a_failing_commit_had_dropped_before_is_forgotten_and_the_rest_can_be_read(tmp_path: Path) -> None:
    io = FullIO()
    disk = Disk(tmp_path, io, budget_bytes=1 << 20)
    io.is_full = lambda: disk.store.stats().n_dropped > 0
    forgotten: list[int] = []
    memory = disk.memory(on_forget=forgotten.extend)
    watch(memory, range(200), n_tokens=FUZZY_TOKENS)
    assert disk.writer._failed
    read = {}
    for block_id in range(200):
        with suppress(KeyError):
            (read[block_id],) = memory.fetch([block_id])
    assert sorted([*forgotten, *read]) == list(range(200)), "each is read or forgotten, and told once"
    assert len(read) > memory.stats().host_budget_bytes // SLOT_BYTES
    for block_id, payload in read.items():
        assert torch.equal(payload, content(block_id, FUZZY_TOKENS))
    disk.close()


def test_a_block_that_is_dropped_while_room_is_made_for_it_is_forgotten_and_leaves_no_hole(tmp_path: Path) -> None:
    disk = Disk(tmp_path, flush_every_s=100.0, budget_bytes=1 << 20)  # nothing is written before it is asked for
    memory = disk.memory(host_slots=12)
    n_host = 12 * SLOT_BYTES // whole_pages(FUZZY_TOKENS * LAYOUT.token_bytes)
    watch(memory, range(200), n_tokens=FUZZY_TOKENS)
    memory.flush()
    oldest = disk.store.blocks()[0].id
    watch(memory, range(200, 200 + n_host), n_tokens=FUZZY_TOKENS)
    assert oldest in memory.table
    with pytest.raises(KeyError, match="no longer there"):
        memory.fetch([oldest])
    assert oldest not in memory.table
    watch(memory, range(200 + n_host, 300), n_tokens=FUZZY_TOKENS)
    memory.flush()
    known = [block.id for block in memory.table.snapshot()]
    for block_id, payload in zip(known, memory.fetch(known), strict=True):
        assert torch.equal(payload, content(block_id, FUZZY_TOKENS))
    disk.close()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_fades_and_goes_while_it_is_read_nothing_read_is_wrong(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk = Disk(tmp_path, budget_bytes=rng.choice([1, 2]) << 20)
    forgotten: list[int] = []
    memory = disk.memory(on_forget=forgotten.extend)
    lengths: list[int] = []
    for i in range(200):
        lengths.append(rng.choice([CLEAR_TOKENS, CLEAR_TOKENS, FUZZY_TOKENS, 5]))
        watch(memory, range(i, i + 1), lengths[i])
        memory.extend(i + 0.5)
        for block_id in rng.sample([block.id for block in memory.table.snapshot()], min(i, 6)):
            try:
                (payload,) = memory.fetch([block_id])
            except KeyError:
                assert block_id in forgotten
            else:
                assert is_content(payload, block_id, lengths[block_id])
    memory.flush()
    assert not disk.writer._failed
    assert disk.store.stats().n_faded > 0 < disk.store.stats().n_dropped
    assert sorted([*forgotten, *(block.id for block in memory.table.snapshot())]) == list(range(200))
    before = disk.store.blocks()
    disk.close()
    again = Disk(tmp_path, budget_bytes=2 << 20)
    assert again.store.blocks() == before
    again.close()


def is_content(payload: Tensor, block_id: int, n_tokens: int) -> bool:
    """Whether these are a block's own tokens, all of them or what has not faded."""
    whole = content(block_id, n_tokens)
    left = [n for n in range(n_tokens) if any(torch.equal(whole[..., n, :], one) for one in payload.unbind(-2))]
    return len(left) in {n_tokens, -(-n_tokens // 2)} and torch.equal(whole[..., left, :], payload)


def test_a_disk_that_spoils_a_new_segment_holds_nobody_up_and_leaves_no_trace(tmp_path: Path) -> None:
    disk = Disk(tmp_path, BrokenIO("first page"))
    memory = disk.memory(host_slots=12)
    watch(memory, range(30))
    memory.flush()
    assert disk.writer._failed
    assert len(disk.events) == 1
    assert "first page is damaged" in disk.events[0]
    known = [block.id for block in memory.table.snapshot()]
    assert known == list(range(18, 30))
    for block_id, payload in zip(known, memory.fetch(known), strict=True):
        assert torch.equal(payload, content(block_id))
    disk.close()
    again = Disk(tmp_path)
    watch(again.memory(), range(5))
    again.close()


def test_a_damaged_block_is_forgotten_and_told_and_the_others_stay(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    watch(disk.memory(), range(30))
    disk.close()
    (path,) = tmp_path.glob("seg-*.kv")
    with path.open("r+b") as file:
        file.seek(4096 + 5 * (4096 + SLOT_BYTES) + 4096 + 100)
        file.write(b"damage")
    again = Disk(tmp_path)
    memory = again.memory()
    with pytest.raises(KeyError, match="damaged"):
        memory.fetch(range(30))
    assert 5 not in memory.table
    assert any("Block 5" in event for event in again.events)
    rest = [i for i in range(30) if i != 5]
    for block_id, payload in zip(rest, memory.fetch(rest), strict=True):
        assert torch.equal(payload, content(block_id))
    again.close()


def test_a_stream_waits_rather_than_run_ahead_of_its_promise(tmp_path: Path) -> None:
    gate = threading.Event()

    class SlowIO(BrokenIO):
        def sync(self, fd: int) -> None:
            gate.wait(10)
            super().sync(fd)

    disk = Disk(tmp_path, SlowIO(), flush_every_s=2.0)
    memory = disk.memory(host_slots=40)
    gate.set()  # creating the first segment syncs as well
    watch(memory, range(1))
    memory.flush()
    gate.clear()
    watcher = threading.Thread(target=submit, args=(disk, range(1, 30)))
    watcher.start()
    watcher.join(0.2)
    assert watcher.is_alive(), "blocks 1 to 3 wait for the disk, and block 4 waits at the door"
    gate.set()
    watcher.join(20)
    assert not watcher.is_alive()
    disk.close()
    again = Disk(tmp_path)
    assert len(again.store.blocks()) == 30
    again.close()


def test_an_end_that_is_being_written_is_waited_for_like_a_block(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    memory = disk.memory()
    watch(memory, range(1))
    memory.flush()
    with held(tmp_path / "catalog.db"):
        memory.extend(1.0)
        drained = started(disk.writer.drain)
        drained.join(0.2)
        assert drained.is_alive()
        assert disk.writer.reach_s == 3.0
        late = started(lambda: disk.writer.submit(put(9)))
        late.join(0.1)
        assert late.is_alive(), "9 s are too far from 1 s"
    for thread in (drained, late):
        thread.join(20)
        assert not thread.is_alive()
    disk.close()
    again = Disk(tmp_path)
    assert [(block.id, block.end_s) for block in again.store.blocks()] == [(0, 1.0), (9, 9.0)]
    again.close()


def test_an_entry_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    disk = Disk(tmp_path, flush_every_s=0.01)
    with held(tmp_path / "diary.db"):
        disk.writer.note(FrameRecord(8.5, "discarded", 0.1))
        time.sleep(0.1)  # taken by the thread by now
        drained = started(disk.writer.drain)
        drained.join(0.2)
        assert drained.is_alive()
    drained.join(20)
    assert not drained.is_alive()
    assert disk.diary.time_s() == 8.5
    disk.close()


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Lets nobody else write to a database meanwhile."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def submit(disk: Disk, ids: range) -> None:
    for block_id in ids:
        disk.writer.submit(put(block_id))


def test_its_reach_tells_up_to_when_blocks_are_taken_without_a_wait(tmp_path: Path) -> None:
    slow = HeldIO()
    store = DiskStore(tmp_path, LAYOUT, "m", budget_bytes=1 << 28, io=slow)
    writer = WriteBehind(store, Diary(tmp_path), flush_every_s=2.0, on_event=print)
    assert writer.reach_s == math.inf
    writer.submit(put(7))
    assert writer.reach_s == 9.0
    slow.let_go.set()
    writer.drain()
    assert writer.reach_s == math.inf
    writer.close()
