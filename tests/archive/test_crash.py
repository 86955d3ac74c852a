"""Kill -9 at any moment: the memory opens by itself, what is missing is what was promised, and nothing is wrong."""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import doomed_watcher
import pytest
import torch
from breakable_disk import LAYOUT, put
from doomed_watcher import BLOCKS_A_SECOND, FLUSH_EVERY_S, DyingIO, ingest, seen

from streamvlm.archive.diary import Diary, read_decisions
from streamvlm.memory.block import KVBlock, whole_pages
from streamvlm.memory.disk.fade import fade
from streamvlm.memory.disk.repair import check_blocks
from streamvlm.memory.disk.store import DiskStore, Put

KILLS = 200
TIGHT_BYTES = 1 << 20
NEWEST = 4
"""Blocks that are there however little room there is."""


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


@dataclass
class Memory:
    """A folder in which one process after another watches, and what has been found there so far."""

    folder: Path
    budget_bytes: int
    next_id: int = 0
    faded: set[int] = field(default_factory=set)
    worst_s: float = 0.0

    @property
    def is_tight(self) -> bool:
        return self.budget_bytes == TIGHT_BYTES

    def check(self, watched_s: float, rng: random.Random, *, read_all: bool) -> None:
        """What a process that had watched up to here has left: no more is missing than promised, and nothing wrong."""
        with closing(DiskStore(self.folder, LAYOUT, "m", budget_bytes=self.budget_bytes)) as store:
            before, self.next_id = self.next_id, store.next_id()
            assert self.next_id >= before, "what had been committed stays"
            ids = [block.id for block in store.blocks()]
            newest = ids[-NEWEST:] if self.is_tight else ids
            assert newest == list(range(self.next_id))[-len(newest) :], "no gap, and nothing twice"
            assert self.is_tight or len(ids) == self.next_id
            missing_s = watched_s - self.next_id / BLOCKS_A_SECOND  # since the first block that is not there
            assert missing_s <= FLUSH_EVERY_S
            self.worst_s = max(self.worst_s, missing_s)
            chosen = ids if self.is_tight else {*rng.sample(ids, min(10, len(ids))), *(i for i in ids if i >= before)}
            for block_id in chosen:
                self._check_block(store, block_id)
            if read_all:
                self._check_rows(store)
        self._check_diary(before, watched_s)

    def _check_block(self, store: DiskStore, block_id: int) -> None:
        place = store.locate(block_id)
        assert place is not None
        as_put = kept(place.block)
        assert place.block == as_put.block
        buffer = torch.zeros(whole_pages(as_put.payload.nbytes), dtype=torch.uint8)
        assert store.load([(place, buffer)]) == [True]
        got = buffer[: as_put.payload.nbytes].view(LAYOUT.dtype).view(as_put.payload.shape)
        assert torch.equal(got, as_put.payload)
        if as_put.block != seen(block_id).block:
            self.faded.add(block_id)

    def _check_rows(self, store: DiskStore) -> None:
        for entry, (block, rows) in zip(store.blocks(), store.rows(), strict=True):
            assert block == entry
            assert torch.equal(rows, kept(entry).rows)

    def _check_diary(self, before: int, watched_s: float) -> None:
        times_s = {watched.time_s for watched in read_decisions(self.folder, 0.0, math.inf)}
        # A frame is noted behind its block, and told of behind both.
        assert max(times_s, default=0.0) <= max(watched_s, before / BLOCKS_A_SECOND) + 1 / BLOCKS_A_SECOND
        promised_s = watched_s - FLUSH_EVERY_S - 1 / BLOCKS_A_SECOND
        assert times_s.issuperset(i / BLOCKS_A_SECOND for i in range(before, math.ceil(promised_s * BLOCKS_A_SECOND)))


def kept(block: KVBlock) -> Put:
    """What a block with this entry has to hold: what was put, or what is left of that once it has faded."""
    one = seen(block.id)
    return one if block.n_tokens == one.block.n_tokens else Put(*fade(one.block, one.payload, one.rows))


@pytest.mark.timeout(600)  # each kill is a process of its own, and disks differ
def test_two_hundred_kills_lose_no_more_than_promised_and_nothing_is_ever_wrong(
    nursery: ForkServerContext, tmp_path: Path
) -> None:
    rng = random.Random(0)
    watched = nursery.Value("d", lock=False)
    roomy, tight = Memory(tmp_path / "roomy", 1 << 30), Memory(tmp_path / "tight", TIGHT_BYTES)
    for memory in (roomy, tight):
        memory.folder.mkdir()
        Diary(memory.folder).close()
    inside_writes = 0
    for kill in range(KILLS):
        memory = tight if kill % 5 == 4 else roomy
        io = DyingIO(rng.randint(1, 6), rng.random()) if kill % 4 == 0 else None
        watched.value = -1.0
        child = nursery.Process(target=ingest, args=(memory.folder, memory.budget_bytes, watched, io))
        with started(child):
            if io is None:
                while kill % 2 and watched.value < 0 and child.is_alive():
                    time.sleep(0.001)  # half of them while it opens the folder, half once it watches
                time.sleep(rng.uniform(0, 0.06))
                child.kill()
            else:
                inside_writes += 1
        assert child.exitcode == -signal.SIGKILL
        memory.check(watched.value, rng, read_all=memory.is_tight or kill >= KILLS - 2)
    assert roomy.next_id > KILLS
    assert not roomy.faded
    with closing(DiskStore(tight.folder, LAYOUT, "m", budget_bytes=TIGHT_BYTES)) as store:
        n_left = len(store.blocks())
    assert tight.faded
    assert n_left < tight.next_id, "and others have been dropped"
    print(  # noqa: T201
        f"{KILLS} kills, {inside_writes} of them inside a write: {roomy.next_id} blocks, all right, and of "
        f"{tight.next_id} in little room the {n_left} left and {len(tight.faded)} seen faded; "
        f"at most {max(roomy.worst_s, tight.worst_s):.1f} s of stream missing, {FLUSH_EVERY_S:g} s promised"
    )


@pytest.mark.parametrize("share", [0.001, 0.5, 1.0])
def test_a_kill_while_a_segment_is_made_leaves_no_half_segment(
    share: float, nursery: ForkServerContext, tmp_path: Path
) -> None:
    watched = nursery.Value("d", lock=False)
    child = nursery.Process(target=ingest, args=(tmp_path, 1 << 30, watched, DyingIO(1, share)))
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
