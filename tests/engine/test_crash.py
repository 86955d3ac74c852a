"""Kill -9 at any moment: the memory opens by itself, what is missing is what was promised, and nothing is wrong."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from breakable_disk import FUZZY_TOKENS, LAYOUT, content, put

from streamvlm.engine.diary import Diary, Watched
from streamvlm.engine.write_behind import WriteBehind
from streamvlm.memory.arena import slot_bytes
from streamvlm.memory.disk_io import DiskIO
from streamvlm.memory.disk_store import DiskStore

KILLS, FLUSH_EVERY_S = 200, 4.0
BLOCKS_A_SECOND = 2  # of stream time
_LENGTHS = (13, FUZZY_TOKENS)


class DyingIO(DiskIO):
    """Dies inside its n-th write, with a part of it written."""

    def __init__(self, dies_at: int, share: float) -> None:
        self.left, self.share = dies_at, share

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        self.left -= 1
        if self.left == 0:
            whole = b"".join(buffers)
            super().write(fd, [memoryview(whole[: int(len(whole) * self.share)])], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(fd, buffers, offset)


def n_tokens_of(block_id: int) -> int:
    return _LENGTHS[block_id % 3 == 0]


def ingest(folder: Path, watched: mmap.mmap, io: DiskIO | None) -> None:
    """Watches at full speed from where the folder was left, and tells how far it has come."""
    store = DiskStore(folder, LAYOUT, "m", budget_bytes=1 << 30, io=io)
    writer = WriteBehind(store, Diary(folder), flush_every_s=FLUSH_EVERY_S, on_event=lambda text: None)
    block_id = store.next_id()
    while True:
        one = put(block_id, n_tokens_of(block_id))
        start_s = block_id / BLOCKS_A_SECOND
        line = replace(one.block, start_s=start_s, end_s=start_s)
        writer.submit(replace(one, block=line))
        writer.note(Watched(start_s, "clear", 1.0))
        watched[:8] = struct.pack("<d", start_s)
        block_id += 1


def in_child(work: Callable[[], None]) -> int:
    """Runs ``work`` in a fork of this process; whatever happens, it never comes back."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(3)
    return pid


def test_two_hundred_kills_lose_no_more_than_promised_and_nothing_is_ever_wrong(tmp_path: Path) -> None:
    rng = random.Random(0)
    watched = mmap.mmap(-1, 8)
    worst_s, inside_writes, n_blocks = 0.0, 0, 0
    for kill in range(KILLS):
        io = DyingIO(rng.randint(1, 6), rng.random()) if kill % 4 == 0 else None
        watched[:8] = struct.pack("<d", -1.0)
        before = n_blocks
        pid = in_child(lambda io=io: ingest(tmp_path, watched, io))  # type: ignore[misc]
        if io is None:
            time.sleep(rng.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
        else:
            inside_writes += 1
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"child ended with {status}"
        (watched_s,) = struct.unpack("<d", watched[:8])

        store = DiskStore(tmp_path, LAYOUT, "m", budget_bytes=1 << 30)
        diary = Diary(tmp_path)
        lines = store.blocks()
        n_blocks = len(lines)
        assert [line.id for line in lines] == list(range(n_blocks)), "no gap, and nothing twice"
        assert n_blocks >= before, "what had been committed stays"
        assert (diary.time_s() or 0.0) <= max(watched_s, before / BLOCKS_A_SECOND)
        missing_s = watched_s - n_blocks / BLOCKS_A_SECOND  # since the first block that is not there
        worst_s = max(worst_s, missing_s)
        assert missing_s <= FLUSH_EVERY_S
        newest = range(before, n_blocks)
        for block_id in {*rng.sample(range(n_blocks), min(10, n_blocks)), *newest}:
            place = store.locate(block_id)
            assert place is not None
            n_bytes = n_tokens_of(block_id) * LAYOUT.token_bytes
            buffer = torch.zeros(slot_bytes(n_bytes), dtype=torch.uint8)
            assert store.load([(place, buffer)]) == [True]
            got = buffer[:n_bytes].view(LAYOUT.dtype).view(LAYOUT.shape(n_tokens_of(block_id)))
            assert torch.equal(got, content(block_id, n_tokens_of(block_id)))
        store.close()
        diary.close()
    assert n_blocks > KILLS
    print(  # noqa: T201
        f"{KILLS} kills, {inside_writes} of them inside a write: {n_blocks} blocks, all right; "
        f"at most {worst_s:.1f} s of stream missing, {FLUSH_EVERY_S:g} s promised"
    )
