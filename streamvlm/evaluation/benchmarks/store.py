"""``streamvlm bench store``: the same bytes through the store and through bare system calls, in one run.

Files are read cold: before every reading, of both sides alike, their pages are dropped from the cache.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.memory.block import PAGE_BYTES, BlockLayout, KVBlock, whole_pages
from streamvlm.memory.disk.catalog import BlockLocation
from streamvlm.memory.disk.store import DiskStore, Put
from streamvlm.memory.host_arena import SlabArena

TOKENS = 16
FETCHED = 64
_BATCH_BYTES = 8 << 20
_REPEATS = 5


def bench_store(folder: Path, *, block_bytes: int, total_bytes: int) -> dict[str, object]:
    """Writes, reads and fetches blocks in a temporary folder below ``folder``, and removes the folder.

    Args:
        folder: On the disk to measure.
        block_bytes: Payload of a block, rounded to what 16 tokens can have.
        total_bytes: Of all blocks.

    Returns:
        Bytes a second of store and plain calls, their ratios, and the store's own seconds of CPU a block.
    """
    head_dim = max(32, block_bytes // (TOKENS * 2 * 4 * 2 * 4) // 8 * 8)
    layout = BlockLayout(n_layers=4, n_kv_heads=2, head_dim=head_dim, dtype=torch.float32)
    n_bytes = layout.token_bytes * TOKENS
    n_blocks = max(2 * FETCHED, total_bytes // n_bytes)
    place = Path(tempfile.mkdtemp(prefix="bench-store-", dir=folder))
    try:
        return _measure(place, layout, n_bytes, n_blocks)
    finally:
        shutil.rmtree(place)


def _measure(folder: Path, layout: BlockLayout, n_bytes: int, n_blocks: int) -> dict[str, object]:
    payloads = torch.randn(layout.shape(TOKENS)).repeat(2, 1, 1, 1, 1, 1)
    rows = torch.zeros(TOKENS, 1, layout.head_dim)
    lines = [KVBlock(i, float(i), float(i), Fidelity.CLEAR, 1.0, TOKENS) for i in range(n_blocks)]
    puts = [Put(line, payloads[line.id % 2], rows) for line in lines]
    a_batch = max(1, _BATCH_BYTES // n_bytes)
    batches = [puts[i : i + a_batch] for i in range(0, n_blocks, a_batch)]
    slot = whole_pages(n_bytes) + PAGE_BYTES

    store = DiskStore(folder, layout, "bench", budget_bytes=4 * n_blocks * slot)
    plain = _PlainFile(folder / "plain", slot, n_blocks)
    written, at_work = list[tuple[float, float]](), list[tuple[float, float]]()
    for number, batch in enumerate(batches):  # in turns, so that both meet the same changes of the disk's pace
        cpu_from_s = time.process_time()
        by_store = _seconds(lambda batch=batch: store.commit(batch, {}))  # type: ignore[misc]
        cpu_between_s = time.process_time()
        by_plain = _seconds(lambda n=number, b=batch: plain.write(n * a_batch, len(b)))  # type: ignore[misc]
        written.append((by_store, by_plain))
        at_work.append((cpu_between_s - cpu_from_s, time.process_time() - cpu_between_s))
    places = [p for line in lines if (p := store.locate(line.id)) is not None]
    assert len(places) == n_blocks, "the budget holds every block"
    rng = np.random.default_rng(0)
    everything = list(range(n_blocks))
    read = [_read_both(store, plain, places, everything, a_batch, cold=True) for _ in range(_REPEATS)]
    draws = [np.sort(rng.choice(n_blocks, FETCHED, replace=False)).tolist() for _ in range(4 * _REPEATS)]
    fetched = [_read_both(store, plain, places, draw, FETCHED, cold=True) for draw in draws]
    warm = [_read_both(store, plain, places, draw, FETCHED, cold=False, clock=time.process_time) for draw in draws]
    source = torch.empty(n_bytes * a_batch, dtype=torch.uint8)
    direct = plain.read_directly()
    copied = median(_seconds(source.clone) for _ in range(20))
    store.close()
    plain.close()
    moved = n_blocks * slot
    rate: Callable[[float, int], float] = lambda seconds, size: round(size / seconds / 1e6, 1)  # noqa: E731
    return {
        "block_bytes": n_bytes,
        "blocks": n_blocks,
        "page cache": "dropped before every reading",
        "memcpy_MB_s": rate(copied, len(source)),
        "write_MB_s": {
            "store": rate(sum(s for s, _ in written), moved),
            "plain": rate(sum(p for _, p in written), moved),
        },
        "read_MB_s": {
            "store": rate(median(s for s, _ in read), moved),
            "plain": rate(median(p for _, p in read), moved),
        },
        "plain O_DIRECT read_MB_s": direct and rate(direct, moved),
        f"fetch of {FETCHED} random blocks_ms": {
            "store": round(1e3 * median(s for s, _ in fetched), 2),
            "plain": round(1e3 * median(p for _, p in fetched), 2),
        },
        "write ratio": round(sum(p for _, p in written) / sum(s for s, _ in written), 2),
        "read ratio": round(median(p / s for s, p in read), 2),
        "fetch ratio": round(median(p / s for s, p in fetched), 2),
        "cpu_us a block, written": {
            "store": round(1e6 * sum(s for s, _ in at_work) / n_blocks, 1),
            "plain": round(1e6 * sum(p for _, p in at_work) / n_blocks, 1),
        },
        "cpu_us a block, fetched from the page cache": {
            "store": round(1e6 * median(s for s, _ in warm) / FETCHED, 1),
            "plain": round(1e6 * median(p for _, p in warm) / FETCHED, 1),
        },
    }


class _PlainFile:
    """One preallocated file of the same slots, written and read by one call a batch or a slot."""

    def __init__(self, path: Path, slot: int, n_slots: int) -> None:
        self._path, self._slot, self._n_slots = path, slot, n_slots
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(self._fd, 0, slot * n_slots)
        self._content = np.random.default_rng(0).bytes(slot)

    def write(self, first: int, n: int) -> None:
        os.pwritev(self._fd, [self._content] * n, first * self._slot)
        os.fdatasync(self._fd)

    def read(self, ids: Sequence[int], into: Sequence[memoryview]) -> None:
        for i, buffer in zip(ids, into, strict=True):
            os.preadv(self._fd, [buffer], i * self._slot)

    def read_directly(self) -> float | None:
        """Measures the seconds to read all of it past the page cache, a slot a call; None if that is refused."""
        aligned = mmap.mmap(-1, self._slot)
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            return None
        began_s = time.perf_counter()
        for i in range(self._n_slots):
            os.preadv(fd, [aligned], i * self._slot)
        os.close(fd)
        return time.perf_counter() - began_s

    def drop_cache(self) -> None:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        os.close(self._fd)


def _read_both(
    store: DiskStore, plain: _PlainFile, places: Sequence[BlockLocation], ids: Sequence[int], a_batch: int,
    *, cold: bool, clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:  # fmt: skip
    """Measures the seconds of the store and of plain calls for the same blocks, ``a_batch`` into memory at a time."""
    n_bytes = whole_pages(plain._slot - PAGE_BYTES)
    arena = SlabArena(a_batch * n_bytes)
    extents = [arena.alloc(n_bytes) for _ in range(a_batch)]
    buffers: list[Tensor] = [arena.view(extent) for extent in extents if extent is not None]
    for buffer in buffers:
        buffer.zero_()  # a running stream's arena has been touched, as the other side's buffers are
    scratch = [memoryview(bytearray(plain._slot)) for _ in range(a_batch)]
    if cold:
        store.drop_cache()
        plain.drop_cache()
    parts = [ids[start : start + a_batch] for start in range(0, len(ids), a_batch)]
    # One side after the other: read in turns, either would have the kernel read ahead during the other's turn.
    began = clock()
    store.announce([places[i] for i in parts[0]])
    for part, following in zip(parts, [*parts[1:], []], strict=True):
        wanted = [places[i] for i in part]
        store.announce([places[i] for i in following])
        assert all(store.load(list(zip(wanted, buffers, strict=False)))), "every block comes back whole"
    between = clock()
    for part in parts:
        plain.read(part, scratch[: len(part)])
    return between - began, clock() - between


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
