"""The disk tier: what it gives back is what was put, or nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from breakable_disk import CLEAR_TOKENS, FUZZY_TOKENS, LAYOUT, BrokenIO, content, put
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch import Tensor

from streamvlm.errors import StoreError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import whole_pages
from streamvlm.memory.disk.codec import Codec
from streamvlm.memory.disk.quota import DiskQuota
from streamvlm.memory.disk.repair import check_blocks, repair
from streamvlm.memory.disk.store import DiskStore, Put
from streamvlm.memory.disk.system_calls import SystemCalls

MODEL = "a-model"


def open_store(folder: Path, budget_bytes: int = 8 << 20, **more: Any) -> DiskStore:
    return DiskStore(folder, LAYOUT, more.pop("model", MODEL), budget_bytes=budget_bytes, **more)


def get(store: DiskStore, block_id: int) -> Tensor | None:
    """A block's payload, or None if it cannot be had."""
    place = store.locate(block_id)
    if place is None:
        return None
    n_bytes = place.block.n_tokens * LAYOUT.token_bytes
    buffer = torch.zeros(whole_pages(n_bytes), dtype=torch.uint8)
    (whole,) = store.load([(place, buffer)])
    return buffer[:n_bytes].view(LAYOUT.dtype).view(LAYOUT.shape(place.block.n_tokens)) if whole else None


def on_disk(folder: Path) -> int:
    """Bytes of all segments."""
    return sum(path.stat().st_size for path in folder.glob("seg-*.kv"))


def test_blocks_and_rows_come_back_to_the_bit_in_another_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    puts = [put(i, CLEAR_TOKENS if i % 3 else FUZZY_TOKENS) for i in range(40)]
    assert store.commit(puts[:25], {}) == set(range(25))
    store.commit(puts[25:], {3: 3.5})
    store.close()
    again = open_store(tmp_path)
    assert [b.id for b in again.blocks()] == list(range(40))
    assert again.blocks()[3].end_s == 3.5
    assert again.next_id() == 40
    for one in puts:
        got = get(again, one.block.id)
        assert got is not None
        assert torch.equal(got, one.payload)
    for (block, rows), one in zip(again.rows(), puts, strict=True):
        assert replace(block, end_s=block.start_s) == one.block
        assert torch.equal(rows, one.rows)
    for (block, payload), one in zip(again.payloads(), puts, strict=True):
        assert replace(block, end_s=block.start_s) == one.block
        assert torch.equal(payload, one.payload)


@pytest.mark.parametrize("codec", [Codec.INT8, Codec.INT4])
def test_a_codec_is_a_matter_of_the_block_and_not_of_the_store(tmp_path: Path, codec: Codec) -> None:
    store = open_store(tmp_path, codec=codec)
    store.commit([put(0)], {})
    store.close()
    raw = open_store(tmp_path)
    raw.commit([put(1)], {})
    lossy, exact = get(raw, 0), get(raw, 1)
    assert lossy is not None
    assert exact is not None
    assert torch.equal(exact, content(1))
    torch.testing.assert_close(lossy, content(0), rtol=0, atol=0.25)


@pytest.mark.parametrize("part", ["header", "rows", "payload", "segment page"])
def test_a_flipped_bit_anywhere_gives_no_block_and_never_a_wrong_one(tmp_path: Path, part: str) -> None:
    events: list[str] = []
    store = open_store(tmp_path)
    store.commit([put(i) for i in range(3)], {})
    place = store.locate(1)
    assert place is not None
    store.close()
    (path,) = tmp_path.glob("seg-*.kv")
    shape_bytes = 4096 + whole_pages(LAYOUT.token_bytes * CLEAR_TOKENS)
    slot = 4096 + place.slot * shape_bytes
    at = {"header": slot + 20, "rows": slot + 140, "payload": slot + 4096 + 77, "segment page": 25}[part]
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 4]))
    if part == "segment page":
        with pytest.raises(StoreError, match="first page is damaged"):
            open_store(tmp_path)
        return
    again = open_store(tmp_path, on_event=events.append)
    if part == "rows":
        assert [block.id for block, _ in again.rows()] == [0, 2]
        assert any("Block 1" in event for event in events)
    else:
        assert get(again, 1) is None
        assert [block.id for block, _ in again.payloads()] == [0, 2]
        assert any("Block 1" in event for event in events)
    for untouched in (0, 2):
        got = get(again, untouched)
        assert got is not None
        assert torch.equal(got, content(untouched))


def test_a_truncated_or_missing_segment_loses_its_blocks_alone(tmp_path: Path) -> None:
    events: list[str] = []
    store = open_store(tmp_path)
    store.commit([put(0, FUZZY_TOKENS)], {})
    store.commit([put(i) for i in range(1, 9)], {})
    places = {i: store.locate(i) for i in range(9)}
    store.close()
    fuzzy, clear = sorted(tmp_path.glob("seg-*.kv"))
    last = places[8]
    assert last is not None
    with clear.open("r+b") as file:
        file.truncate(4096 + last.slot * (4096 + whole_pages(LAYOUT.token_bytes * CLEAR_TOKENS)) + 5000)
    fuzzy.unlink()
    again = open_store(tmp_path, on_event=events.append)
    assert get(again, 0) is None
    assert get(again, 8) is None
    assert all(get(again, i) is not None for i in range(1, 8))
    assert any("1 blocks were forgotten" in event for event in events)


@pytest.mark.parametrize("fault", ["torn", "sync"])
def test_a_failed_commit_leaves_what_was_there(tmp_path: Path, fault: str) -> None:
    io = BrokenIO()
    store = open_store(tmp_path, io=io)
    store.commit([put(0)], {})
    io.breaks = fault
    with pytest.raises(OSError, match="Input/output"):
        store.commit([put(1), put(2)], {0: 9.0})
    store.close()
    again = open_store(tmp_path)
    assert [block.id for block in again.blocks()] == [0]
    got = get(again, 0)
    assert got is not None
    assert torch.equal(got, content(0))
    assert again.commit([put(1)], {}) == {1}


def test_a_bit_flipped_while_writing_shows_when_it_is_read(tmp_path: Path) -> None:
    io = BrokenIO()
    store = open_store(tmp_path, io=io)
    store.commit([put(0)], {})
    io.breaks = "flipped"
    store.commit([put(1)], {})
    io.breaks = ""
    assert get(store, 1) is None
    assert get(store, 0) is not None


def test_short_writes_and_reads_are_taken_up_where_they_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_write(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        return os.pwrite(fd, buffers[0][: max(1, buffers[0].nbytes // 3)], offset)

    def short_read(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        data = os.pread(fd, max(1, buffers[0].nbytes // 3), offset)
        buffers[0][: len(data)] = data
        return len(data)

    monkeypatch.setattr("streamvlm.memory.disk.system_calls.os.pwritev", short_write)
    monkeypatch.setattr("streamvlm.memory.disk.system_calls.os.preadv", short_read)
    store = open_store(tmp_path)
    store.commit([put(i) for i in range(3)], {})
    for i in range(3):
        got = get(store, i)
        assert got is not None
        assert torch.equal(got, content(i))


def test_an_unreadable_disk_gives_no_block_and_an_event(tmp_path: Path) -> None:
    events: list[str] = []
    io = BrokenIO()
    store = open_store(tmp_path, io=io, on_event=events.append)
    store.commit([put(0)], {})
    io.breaks = "eio"
    assert get(store, 0) is None
    assert any("cannot be read" in event for event in events)


def test_a_full_disk_caps_the_budget_and_the_store_goes_on(tmp_path: Path) -> None:
    events: list[str] = []
    io = BrokenIO("enospc", after=2)
    store = open_store(tmp_path, budget_bytes=4 << 20, io=io, on_event=events.append)
    for i in range(0, 400, 5):
        assert store.commit([put(i + k) for k in range(5)], {}) == set(range(i, i + 5))
    assert any("is full" in event for event in events)
    assert store.stats().n_dropped > 0
    got = get(store, 399)
    assert got is not None
    assert torch.equal(got, content(399))


def test_stores_that_share_a_quota_stay_within_it_together_and_each_keeps_its_newest(tmp_path: Path) -> None:
    quota = DiskQuota(10 << 20)
    events: list[str] = []
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    one, other = (open_store(folder, budget_bytes=8 << 20, quota=quota, on_event=events.append) for folder in folders)
    for i in range(0, 400, 5):
        for store in (one, other):
            store.commit([put(i + k) for k in range(5)], {})
        on_disk = sum(path.stat().st_size for folder in folders for path in folder.glob("seg-*.kv"))
        assert on_disk == quota.used_bytes <= quota.most_bytes
    for store in (one, other):
        assert store.stats().n_dropped > 0
        newest = get(store, 399)
        assert newest is not None
        assert torch.equal(newest, content(399))
    (late := tmp_path / "late").mkdir()
    quota.take(quota.left_bytes)
    starved = open_store(late, quota=quota, on_event=events.append)
    assert starved.commit([put(0)], {}) == set()
    assert starved.commit([put(1)], {}) == set()
    assert sum("No disk is left" in event for event in events) == 1
    quota.give_back(1 << 20)
    assert starved.commit([put(2)], {}) == {2}


class MeddlingIO(SystemCalls):
    """Calls back at every sync, and before every read of another: what another thread may do at that moment."""

    def __init__(self) -> None:
        self.at_sync: Callable[[], None] = lambda: None
        self.before_read: Callable[[], None] | None = None

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.at_sync()

    def read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        before, self.before_read = self.before_read, None
        if before is not None:
            before()
            self.before_read = before
        return super().read(fd, buffers, offset)


def test_blocks_may_be_found_damaged_while_they_are_dropped(tmp_path: Path) -> None:
    io = MeddlingIO()
    store = open_store(tmp_path, budget_bytes=2 << 20, io=io)
    ids = count()
    while not store.stats().n_faded:
        store.commit([put(next(ids))], {})

    def find_the_oldest_damaged() -> None:
        store.quarantine(store.blocks()[0].id)

    io.at_sync = find_the_oldest_damaged
    while store.stats().n_damaged < 10:
        newest = next(ids)
        assert store.commit([put(newest)], {}) == {newest}
    before = store.blocks()
    store.close()
    again = open_store(tmp_path, budget_bytes=2 << 20)
    assert again.blocks() == before
    assert all(get(again, block.id) is not None for block in before)


@pytest.mark.parametrize("fault", ["enospc", "sync", "first page"])
def test_a_segment_that_could_not_be_made_takes_nothing_of_a_quota(tmp_path: Path, fault: str) -> None:
    quota = DiskQuota(10 << 20)
    store = open_store(tmp_path, quota=quota, io=BrokenIO(fault))
    with suppress(OSError, StoreError):
        store.commit([put(0)], {})
    assert quota.used_bytes == 0
    assert not list(tmp_path.glob("seg-*"))


@given(st.lists(st.integers(1, 60), max_size=30))
def test_a_quota_never_gives_more_than_it_has(sizes: list[int]) -> None:
    quota = DiskQuota(100, used_bytes=7)
    taken = [size for size in sizes if quota.take(size)]
    assert quota.used_bytes == 7 + sum(taken) <= 100
    assert all(size > quota.left_bytes for size in sizes if size not in taken)
    for size in taken:
        quota.give_back(size)
    assert quota.left_bytes == 93


def test_under_its_budget_the_flattest_of_the_oldest_fade_and_then_go(tmp_path: Path) -> None:
    budget_bytes = 6 << 20
    store = open_store(tmp_path, budget_bytes=budget_bytes)
    peaks = range(0, 600, 10)
    for i in range(0, 600, 5):
        store.commit([put(i + k, score=5.0 if i + k in peaks else 1.0) for k in range(5)], {})
        assert sum(path.stat().st_size for path in tmp_path.glob("seg-*.kv")) <= budget_bytes
    stats = store.stats()
    assert stats.n_faded > 0
    assert stats.n_dropped > 0
    left = store.blocks()
    assert left[-1].fidelity is Fidelity.CLEAR
    assert len(store.dropped()) == stats.n_dropped == 600 - len(left)
    old = [block for block in left if block.id < 300]
    assert sum(block.id in peaks for block in old) / max(len(old), 1) > 0.1, "turning points stay longer"
    faded = next(block for block in left if block.fidelity is Fidelity.FUZZY and block.positions is not None)
    assert faded.n_tokens == 7
    got = get(store, faded.id)
    assert got is not None
    whole = content(faded.id)
    kept = [n for n in range(CLEAR_TOKENS) if any(torch.equal(whole[..., n, :], got[..., m, :]) for m in range(7))]
    assert len(kept) == 7, "a faded block's tokens are some of its own"
    stood = put(faded.id).block.positions
    assert stood is not None
    assert faded.positions == stood.keep(torch.tensor(kept)), "and stay where they stood"


def test_what_has_faded_makes_room_for_what_fades_next(tmp_path: Path) -> None:
    store = open_store(tmp_path, budget_bytes=2 << 20)
    oldest, n_faded = [], []
    for i in range(240):
        assert store.commit([put(i)], {}) == {i}
        if i % 60 == 59:
            oldest.append(store.blocks()[0].id)
            n_faded.append(store.stats().n_faded)
    assert oldest == sorted(set(oldest)), "the oldest go"
    assert n_faded == sorted(set(n_faded)), "and clear blocks still fade"
    fidelities = [block.fidelity for block in store.blocks()]
    assert fidelities == sorted(fidelities, key=lambda one: one is Fidelity.CLEAR)
    assert min(fidelities.count(one) for one in (Fidelity.FUZZY, Fidelity.CLEAR)) > 10


def test_a_memory_full_of_another_shape_keeps_what_is_new(tmp_path: Path) -> None:
    budget_bytes = 1 << 20
    store = open_store(tmp_path, budget_bytes=budget_bytes)
    for i in range(50):
        store.commit([put(i)], {})
    store.close()
    quota = DiskQuota(budget_bytes, used_bytes=on_disk(tmp_path))
    again = open_store(tmp_path, budget_bytes=budget_bytes, codec=Codec.INT4, quota=quota)
    held = {block.id for block in again.blocks()} | set(range(50, 600))
    for i in range(50, 600):
        assert again.commit([put(i, FUZZY_TOKENS if i % 3 else CLEAR_TOKENS)], {}) == {i}
        assert get(again, i) is not None
        assert on_disk(tmp_path) == quota.used_bytes <= budget_bytes
    places = [place for block in again.blocks() if (place := again.locate(block.id)) is not None]
    assert {place.codec for place in places} == {Codec.INT4}, "what is in the old codec is the oldest, and gone"
    assert all(get(again, block.id) is not None for block in again.blocks())
    assert again.dropped() == held - {block.id for block in again.blocks()}
    again.close()
    assert open_store(tmp_path, budget_bytes=budget_bytes).blocks() == again.blocks()


@settings(max_examples=25, deadline=None)
@given(
    budget_bytes=st.integers(100_000, 900_000),
    batches=st.lists(
        st.lists(st.tuples(st.integers(1, 30), st.sampled_from(Fidelity)), min_size=1, max_size=5), max_size=40
    ),
    reopened=st.dictionaries(st.integers(0, 39), st.sampled_from(list(Codec)), max_size=4),
)
def test_whatever_comes_in_whatever_sizes_stays_within_the_budget_and_nothing_is_wrong(
    tmp_path_factory: pytest.TempPathFactory,
    budget_bytes: int,
    batches: list[list[tuple[int, Fidelity]]],
    reopened: dict[int, Codec],
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store, ids = open_store(folder, budget_bytes=budget_bytes), count()
    held: set[int] = set()
    came: dict[int, Put] = {}
    for n_commits, batch in enumerate(batches):
        if (codec := reopened.get(n_commits)) is not None:
            before = store.blocks()
            store.close()
            store = open_store(folder, budget_bytes=budget_bytes, codec=codec)
            assert store.blocks() == before
        puts = [(put(next(ids), n_tokens), fidelity) for n_tokens, fidelity in batch for _ in range(3)]
        came |= {one.block.id: replace(one, block=replace(one.block, fidelity=fidelity)) for one, fidelity in puts}
        held = (held | store.commit(list(came.values())[-len(puts) :], {})) - store.dropped()
        assert {block.id for block in store.blocks()} == held
        assert on_disk(folder) <= budget_bytes
    for block in store.blocks():
        got, place, one = get(store, block.id), store.locate(block.id), came[block.id]
        assert got is not None
        assert place is not None
        if place.codec is Codec.RAW and block.n_tokens == one.block.n_tokens:
            assert torch.equal(got, one.payload)
            assert block == one.block
    store.close()


@pytest.mark.parametrize("step", ["unlink", "rename"])
def test_a_process_that_dies_while_segments_change_leaves_a_store_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    budget_bytes = 1 << 20
    store = open_store(tmp_path, budget_bytes=budget_bytes)
    for i in range(40):
        store.commit([put(i)], {})
    before = {block.id for block in store.blocks()}
    store.close()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    again = open_store(tmp_path, budget_bytes=budget_bytes, codec=Codec.INT8)
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, die)
        with pytest.raises(KeyboardInterrupt):
            again.commit([put(40)], {})
    left = {block.id for block in open_store(tmp_path, budget_bytes=budget_bytes).blocks()}
    assert left == before - again.dropped() < before
    last = open_store(tmp_path, budget_bytes=budget_bytes, codec=Codec.INT8)
    for i in range(40, 60):
        assert last.commit([put(i)], {}) == {i}
        assert on_disk(tmp_path) <= budget_bytes
    assert all(get(last, block.id) is not None for block in last.blocks())


def test_a_lower_budget_forgets_the_oldest_until_the_files_fit(tmp_path: Path) -> None:
    store = open_store(tmp_path, budget_bytes=4 << 20)
    for i in range(80):
        store.commit([put(i)], {})
    store.close()
    quota = DiskQuota(8 << 20, used_bytes=on_disk(tmp_path))
    assert on_disk(tmp_path) > 2 << 20
    events: list[str] = []
    lower = open_store(tmp_path, budget_bytes=2 << 20, quota=quota, on_event=events.append)
    assert on_disk(tmp_path) == quota.used_bytes <= 2 << 20
    left = [block.id for block in lower.blocks()]
    assert left == list(range(left[0], 80))
    assert all(get(lower, block_id) is not None for block_id in left)
    assert any("are forgotten" in event for event in events)
    assert lower.commit([put(80)], {}) == {80}


@pytest.mark.parametrize("budget_bytes", [40_000, 70_000, 300_000])
def test_a_budget_of_few_blocks_holds_the_newest(tmp_path: Path, budget_bytes: int) -> None:
    store = open_store(tmp_path, budget_bytes=budget_bytes)
    for i in range(20):
        assert store.commit([put(i)], {}) == {i}
        assert get(store, i) is not None
        assert on_disk(tmp_path) <= budget_bytes


def test_a_disk_that_was_full_at_first_is_tried_again(tmp_path: Path) -> None:
    events: list[str] = []
    io = BrokenIO("enospc")
    store = open_store(tmp_path, io=io, on_event=events.append)
    assert store.commit([put(0), put(1)], {}) == set()
    assert len(events) == 1
    assert "No disk is left" in events[0]
    io.breaks = ""
    assert store.commit([put(2)], {}) == {2}


def test_a_segment_may_go_while_its_blocks_are_read(tmp_path: Path) -> None:
    store = open_store(tmp_path, budget_bytes=1 << 20)
    for i in range(40):
        store.commit([put(i)], {})
    store.close()
    io, events = MeddlingIO(), list[str]()
    again = open_store(tmp_path, budget_bytes=1 << 20, codec=Codec.INT8, io=io, on_event=events.append)
    wanted = [place for block in again.blocks() if (place := again.locate(block.id)) is not None]
    buffers = [
        torch.zeros(whole_pages(place.block.n_tokens * LAYOUT.token_bytes), dtype=torch.uint8) for place in wanted
    ]
    newer = count(40)

    def write_another() -> None:
        again.commit([put(next(newer))], {})

    io.before_read = write_another
    read = again.load(list(zip(wanted, buffers, strict=True)))
    assert 0 < sum(read) < len(read)
    for place, buffer, is_whole in zip(wanted, buffers, read, strict=True):
        if is_whole and place.block.fidelity is Fidelity.CLEAR:
            n_bytes = place.block.n_tokens * LAYOUT.token_bytes
            assert torch.equal(buffer[:n_bytes].view(torch.float32), content(place.block.id).flatten())
    assert not any("cannot be read" in event for event in events)


def test_a_faded_block_stands_for_all_its_time(tmp_path: Path) -> None:
    store = open_store(tmp_path, budget_bytes=2 << 20)
    store.commit([put(3)], {})
    store.commit([], {3: 9.0})
    assert store.blocks()[0].end_s == 9.0
    newer = count(4)
    while store.blocks()[0].fidelity is Fidelity.CLEAR:
        store.commit([put(next(newer))], {})
    store.close()
    oldest = open_store(tmp_path, budget_bytes=2 << 20).blocks()[0]
    assert (oldest.id, oldest.fidelity, oldest.end_s) == (3, Fidelity.FUZZY, 9.0)


def test_a_store_of_another_model_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(0)], {})
    store.close()
    with pytest.raises(StoreError, match="another model"):
        open_store(tmp_path, model="b-model")


def test_the_catalog_is_made_again_from_the_segments(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(i, CLEAR_TOKENS if i % 2 else FUZZY_TOKENS) for i in range(20)], {})
    before = store.blocks()
    store.close()
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 300)
    with pytest.raises(StoreError, match="memory repair"):
        open_store(tmp_path)
    assert repair(tmp_path) == (20, 0)
    again = open_store(tmp_path)
    assert again.blocks() == before
    assert all(get(again, i) is not None for i in range(20))


def test_a_lost_catalog_is_never_taken_for_an_empty_memory(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(i) for i in range(5)], {})
    before = store.blocks()
    store.close()
    (tmp_path / "catalog.db").unlink()
    with pytest.raises(StoreError, match=r"missing.*memory repair"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match=r"missing.*memory repair"):
        check_blocks(tmp_path)
    assert repair(tmp_path) == (5, 0)
    assert open_store(tmp_path).blocks() == before


@pytest.mark.parametrize("n_renames", range(4))
def test_a_repair_that_was_broken_off_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_renames: int
) -> None:
    store = open_store(tmp_path)
    store.commit([put(i) for i in range(5)], {})
    before = store.blocks()
    store.close()
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"catalog.db{suffix}").write_bytes(b"not a database at all" * 300)
    rename, renamed = Path.rename, list[Path]()

    def rename_or_end(path: Path, target: Path) -> Path:
        if len(renamed) == n_renames:
            raise KeyboardInterrupt
        renamed.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_end)
        with pytest.raises(KeyboardInterrupt):
            repair(tmp_path)
    with pytest.raises(StoreError, match="memory repair"):
        open_store(tmp_path)
    assert repair(tmp_path) == (5, 0)
    assert open_store(tmp_path).blocks() == before


def test_repair_takes_a_block_as_committed_and_not_as_a_dead_process_left_it(tmp_path: Path) -> None:
    io = BrokenIO()
    store = open_store(tmp_path, io=io)
    store.commit([put(56)], {})
    io.breaks = "sync"
    with pytest.raises(OSError, match="Input/output"):
        store.commit([put(57)], {})
    store.close()
    again = open_store(tmp_path)
    again.commit([put(57, FUZZY_TOKENS)], {})
    before = again.blocks()
    again.close()
    assert repair(tmp_path) == (2, 0)
    assert open_store(tmp_path).blocks() == before


def test_repair_leaves_damaged_slots_out(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(i) for i in range(5)], {})
    store.close()
    (path,) = tmp_path.glob("seg-*.kv")
    with path.open("r+b") as file:
        file.seek(4096 + 4096 + 100)
        file.write(b"\xff" * 50)
    assert repair(tmp_path) == (4, 1)
    with pytest.raises(StoreError, match="no segments"):
        repair(tmp_path / "..")


class StoreAgainstADict(RuleBasedStateMachine):
    """Any order of puts, ends, reopenings and repairs: what is found is what was put."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(self.make_folder())
        self.model: dict[int, Tensor] = {}
        self.gone: dict[int, Tensor] = {}
        self.store = open_store(self.folder)
        self.next_id = 0

    make_folder: Callable[[], str]

    @rule(n=st.integers(1, 6), fuzzy=st.booleans())
    def commit(self, n: int, fuzzy: bool) -> None:
        puts = [put(self.next_id + i, FUZZY_TOKENS if fuzzy else CLEAR_TOKENS) for i in range(n)]
        self.next_id += n
        assert self.store.commit(puts, {}) == {one.block.id for one in puts}
        self.model |= {one.block.id: one.payload for one in puts}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.folder)

    @rule()
    def repair(self) -> None:
        self.store.close()
        if self.model:
            repair(self.folder)
        self.store = open_store(self.folder)
        # Segments alone do not tell what was forgotten: it may come back, whole.
        self.model |= {b.id: self.gone.pop(b.id) for b in self.store.blocks() if b.id in self.gone}

    @rule(which=st.randoms(use_true_random=False))
    def quarantine(self, which: random.Random) -> None:
        if self.model:
            block_id = which.choice(sorted(self.model))
            self.gone[block_id] = self.model.pop(block_id)
            self.store.quarantine(block_id)
            self.store.commit([], {})

    @invariant()
    def everything_is_there(self) -> None:
        assert [b.id for b in self.store.blocks()] == sorted(self.model)

    def teardown(self) -> None:
        for block_id, payload in self.model.items():
            got = get(self.store, block_id)
            assert got is not None
            assert torch.equal(got, payload)
        self.store.close()


def test_any_order_of_operations_keeps_every_block(tmp_path_factory: pytest.TempPathFactory) -> None:
    class Machine(StoreAgainstADict):
        make_folder = staticmethod(lambda: str(tmp_path_factory.mktemp("store")))

    Machine.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
    Machine.TestCase().runTest()
