"""A process that writes a memory at full speed until it is killed, or kills itself inside a write."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from ctypes import c_double
from dataclasses import replace
from pathlib import Path

from breakable_disk import CLEAR_TOKENS, FUZZY_TOKENS, LAYOUT, put

from streamvlm.archive.diary import Diary, FrameRecord
from streamvlm.archive.write_behind import WriteBehind
from streamvlm.memory.disk.store import DiskStore, Put
from streamvlm.memory.disk.system_calls import SystemCalls

FLUSH_EVERY_S = 4.0
BLOCKS_A_SECOND = 2  # of stream time
_LENGTHS = (CLEAR_TOKENS, FUZZY_TOKENS)


class DyingIO(SystemCalls):
    """Kills the process inside the n-th write, with a part of it written."""

    def __init__(self, dies_at: int, share: float) -> None:
        self.left, self.share = dies_at, share

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        self.left -= 1
        if self.left == 0:
            whole = b"".join(buffers)
            super().write(fd, [memoryview(whole[: int(len(whole) * self.share)])], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(fd, buffers, offset)


def seen(block_id: int) -> Put:
    """Makes the block that such a process puts."""
    one = put(block_id, _LENGTHS[block_id % 3 == 0])
    start_s = block_id / BLOCKS_A_SECOND
    return replace(one, block=replace(one.block, start_s=start_s, end_s=start_s))


def ingest(folder: Path, budget_bytes: int, watched: c_double, io: SystemCalls | None) -> None:
    """Watches at full speed from where the folder was left, and prints how far it has come."""
    store = DiskStore(folder, LAYOUT, "m", budget_bytes=budget_bytes, io=io)
    writer = WriteBehind(store, Diary(folder), flush_every_s=FLUSH_EVERY_S, on_event=lambda text: None)
    block_id = store.next_id()
    while True:
        one = seen(block_id)
        writer.submit(one)
        writer.note(FrameRecord(one.block.start_s, "clear", 1.0))
        watched.value = one.block.start_s
        block_id += 1
