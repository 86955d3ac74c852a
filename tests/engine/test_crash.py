"""Kill -9 at any moment: the memory opens by itself, what is missing is what was promised, and nothing is wrong."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import doomed_watcher
import pytest
import torch
from breakable_disk import LAYOUT, content, put
from doomed_watcher import BLOCKS_A_SECOND, FLUSH_EVERY_S, DyingIO, ingest, n_tokens_of

from streamvlm.engine.diary import Diary
from streamvlm.memory.arena import slot_bytes
from streamvlm.memory.disk_store import DiskStore
from streamvlm.memory.mend import check_blocks

KILLS = 200


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> ForkServerContext:
    """Forks children from a fresh process: this one may have threads by now, whose locks a fork would hold for ever."""
    nursery = multiprocessing.get_context("forkserver")
    nursery.set_forkserver_preload([doomed_watcher.__name__])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # or the preloading would pass over it in silence
    return nursery


@contextmanager
def started(child: BaseProcess) -> Iterator[None]:
    """Lets a child run, and not for longer than what is done with it, whatever becomes of that."""
    child.start()
    try:
        yield
        child.join()
    finally:
        child.kill()


@pytest.mark.timeout(600)  # each kill is a process of its own, and disks differ
def test_two_hundred_kills_lose_no_more_than_promised_and_nothing_is_ever_wrong(
    nursery: ForkServerContext, tmp_path: Path
) -> None:
    rng = random.Random(0)
    watched = nursery.Value("d", lock=False)
    worst_s, inside_writes, n_blocks = 0.0, 0, 0
    for kill in range(KILLS):
        io = DyingIO(rng.randint(1, 6), rng.random()) if kill % 4 == 0 else None
        watched.value = -1.0
        before = n_blocks
        child = nursery.Process(target=ingest, args=(tmp_path, watched, io))
        with started(child):
            if io is None:
                while kill % 2 and watched.value < 0 and child.is_alive():
                    time.sleep(0.001)  # half of them while it opens the folder, half once it watches
                time.sleep(rng.uniform(0, 0.06))
                child.kill()
            else:
                inside_writes += 1
        assert child.exitcode == -signal.SIGKILL
        watched_s = watched.value

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


@pytest.mark.parametrize("share", [0.001, 0.5, 1.0])
def test_a_kill_while_a_segment_is_made_leaves_no_half_segment(
    share: float, nursery: ForkServerContext, tmp_path: Path
) -> None:
    watched = nursery.Value("d", lock=False)
    child = nursery.Process(target=ingest, args=(tmp_path, watched, DyingIO(1, share)))
    with started(child):
        pass
    assert child.exitcode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.glob("seg-*")] == [".draft"]
    assert check_blocks(tmp_path) == (0, [])

    store = DiskStore(tmp_path, LAYOUT, "m", budget_bytes=1 << 30)
    assert store.blocks() == []
    assert not list(tmp_path.glob("seg-*")), "what was half made is gone"
    assert store.commit([put(0)], {}) == {0}
    store.close()
    assert check_blocks(tmp_path) == (1, [])
