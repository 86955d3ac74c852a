from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pretended_gpu import pretended_gpu
from torch import Tensor

from streamvlm.errors import MemoryBudgetError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import PAGE_BYTES, BlockLayout, KVBlock
from streamvlm.memory.block_table import Snapshot
from streamvlm.memory.hierarchy import BlockMemory

LAYOUT = BlockLayout(n_layers=2, n_kv_heads=2, head_dim=32, dtype=torch.float16)
TOKENS_A_PAGE = PAGE_BYTES // LAYOUT.token_bytes


def payload(seed: int, n_tokens: int = TOKENS_A_PAGE) -> Tensor:
    return torch.randn(LAYOUT.shape(n_tokens), generator=torch.Generator().manual_seed(seed)).to(LAYOUT.dtype)


def memory_of(n_pages: int) -> tuple[BlockMemory, list[int]]:
    forgotten: list[int] = []
    memory = BlockMemory(
        LAYOUT,
        device="cpu",
        device_budget_bytes=PAGE_BYTES,
        host_budget_bytes=n_pages * PAGE_BYTES,
        on_forget=forgotten.extend,
    )
    return memory, forgotten


def fill(memory: BlockMemory, n_blocks: int) -> list[KVBlock]:
    return [memory.append(payload(i), start_s=float(i), fidelity=Fidelity.CLEAR, score=0.5) for i in range(n_blocks)]


class MemoryMachine(RuleBasedStateMachine):
    """The memory against a plain dict, with blocks of one to four pages in an arena of few."""

    @initialize(n_pages=st.integers(1, 12))
    def start(self, n_pages: int) -> None:
        self.memory, self.reported = memory_of(n_pages)
        self.n_pages = n_pages
        self.blocks: dict[int, KVBlock] = {}
        self.contents: dict[int, Tensor] = {}
        self.recency: list[int] = []
        self.pinned_from = 10**9
        self.n_appended = 0
        self.snapshots: list[tuple[Snapshot, list[KVBlock]]] = []
        self.fetched: list[tuple[Tensor, Tensor]] = []

    @rule(n_tokens=st.integers(1, 4 * TOKENS_A_PAGE), fidelity=st.sampled_from(["clear", "fuzzy"]))
    def append(self, n_tokens: int, fidelity: str) -> None:
        content = payload(self.n_appended, n_tokens)
        window = [i for i in self.blocks if i >= self.pinned_from]
        needed = sum(pages(self.contents[i]) for i in window) + pages(content)
        arguments = {"start_s": float(self.n_appended), "fidelity": Fidelity(fidelity), "score": 0.25}
        if needed > self.n_pages:
            with pytest.raises(MemoryBudgetError, match=str(needed * PAGE_BYTES)):
                self.memory.append(content, **arguments)  # type: ignore[arg-type]
            return
        before = len(self.reported)
        block = self.memory.append(content, **arguments)  # type: ignore[arg-type]
        assert block.id == self.n_appended
        self.forget(self.reported[before:])
        self.n_appended += 1
        self.blocks[block.id], self.contents[block.id] = block, content.clone()
        self.recency.append(block.id)
        content.zero_()

    def forget(self, ids: list[int]) -> None:
        evictable = [i for i in self.recency if i < self.pinned_from]
        assert ids == evictable[: len(ids)]
        for block_id in ids:
            del self.blocks[block_id], self.contents[block_id]
            self.recency.remove(block_id)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.blocks)), max_size=4))
        for block_id, got in zip(ids, self.memory.fetch(ids), strict=True):
            self.fetched.append((got, self.contents[block_id].clone()))
            self.recency.remove(block_id)
            self.recency.append(block_id)

    @precondition(lambda self: self.reported)
    @rule(data=st.data())
    def fetch_what_is_gone(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.reported))
        with pytest.raises(KeyError):
            self.memory.fetch([gone])

    @rule(back=st.integers(0, 4))
    def slide_window(self, back: int) -> None:
        self.pinned_from = self.n_appended - back
        self.memory.table.window_start = self.pinned_from

    @precondition(lambda self: self.blocks)
    @rule(ahead_s=st.floats(0, 5))
    def extend(self, ahead_s: float) -> None:
        newest = max(self.blocks)
        block = self.blocks[newest]
        end_s = block.end_s + ahead_s
        self.memory.extend(end_s)
        self.blocks[newest] = KVBlock(newest, block.start_s, end_s, block.fidelity, block.score, block.n_tokens)

    @rule(until_s=st.none() | st.integers(0, 40))
    def snapshot(self, until_s: int | None) -> None:
        expected = [block for block in self.blocks.values() if until_s is None or block.start_s <= until_s]
        self.snapshots.append((self.memory.table.snapshot(until_s), expected))

    @invariant()
    def what_was_handed_out_has_not_changed(self) -> None:
        assert all(list(snapshot) == blocks for snapshot, blocks in self.snapshots)
        assert all(torch.equal(got, content) for got, content in self.fetched)

    @invariant()
    def remembered_is_what_was_not_reported_forgotten(self) -> None:
        stats = self.memory.stats()
        assert sorted([*self.reported, *self.blocks]) == list(range(self.n_appended))
        assert [block.id for block in self.memory.table.snapshot()] == list(self.blocks)
        assert (stats.n_blocks, stats.n_forgotten) == (len(self.blocks), len(self.reported))
        assert stats.n_clear == sum(block.fidelity is Fidelity.CLEAR for block in self.blocks.values())
        assert stats.n_fuzzy == stats.n_blocks - stats.n_clear

    @invariant()
    def bytes_stay_within_budget(self) -> None:
        stats = self.memory.stats()
        assert stats.host_bytes == PAGE_BYTES * sum(map(pages, self.contents.values()))
        assert stats.host_bytes <= stats.host_budget_bytes == self.n_pages * PAGE_BYTES
        assert (stats.device_bytes, stats.device_budget_bytes) == (0, 0)

    def teardown(self) -> None:
        for block_id, content in getattr(self, "contents", {}).items():
            assert torch.equal(self.memory.fetch([block_id])[0], content)


def pages(content: Tensor) -> int:
    return -(-content.nbytes // PAGE_BYTES)


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_equal_blocks_are_forgotten_one_by_one_in_the_order_of_their_last_use() -> None:
    memory, forgotten = memory_of(n_pages=4)
    fill(memory, 4)
    memory.fetch([0, 2])
    fill(memory, 3)
    assert forgotten == [1, 3, 0]


def test_the_window_outlives_older_blocks_even_when_those_were_just_fetched() -> None:
    memory, forgotten = memory_of(n_pages=4)
    fill(memory, 4)
    memory.table.window_start = 1
    memory.fetch([0])
    fill(memory, 1)
    assert forgotten == [0]


def test_a_budget_too_small_for_a_block_says_how_many_bytes_are_needed() -> None:
    memory, _ = memory_of(n_pages=1)
    with pytest.raises(MemoryBudgetError, match=rf"0 blocks .* need {2 * PAGE_BYTES} bytes"):
        memory.append(payload(0, TOKENS_A_PAGE + 1), start_s=0.0, fidelity=Fidelity.CLEAR, score=0.0)


def test_an_append_that_the_window_leaves_no_room_for_forgets_nothing() -> None:
    memory, forgotten = memory_of(n_pages=3)
    fill(memory, 3)
    memory.table.window_start = 1
    with pytest.raises(MemoryBudgetError, match=rf"2 blocks .* need {4 * PAGE_BYTES} bytes"):
        memory.append(payload(9, 2 * TOKENS_A_PAGE), start_s=3.0, fidelity=Fidelity.CLEAR, score=0.0)
    assert forgotten == []
    assert 0 in memory.table


def test_window_blocks_that_lie_apart_are_moved_together_when_only_that_makes_room() -> None:
    memory, forgotten = memory_of(n_pages=4)
    fill(memory, 4)
    memory.fetch([1, 3])
    fill(memory, 2)  # 4 and 5 take the pages of 0 and 2, between those of 1 and 3
    memory.table.window_start = 4
    memory.append(payload(9, 2 * TOKENS_A_PAGE), start_s=6.0, fidelity=Fidelity.FUZZY, score=0.0)
    assert forgotten == [0, 2, 1, 3]
    assert all(map(torch.equal, memory.fetch([4, 5, 6]), [payload(0), payload(1), payload(9, 2 * TOKENS_A_PAGE)]))


def test_a_fetched_payload_survives_the_eviction_of_its_block() -> None:
    memory, _ = memory_of(n_pages=1)
    fill(memory, 1)
    (fetched,) = memory.fetch([0])
    memory.append(payload(7), start_s=1.0, fidelity=Fidelity.CLEAR, score=0.0)
    assert 0 not in memory.table
    assert torch.equal(fetched, payload(0))


def test_a_snapshot_does_not_see_later_appends_extensions_or_evictions() -> None:
    memory, _ = memory_of(n_pages=2)
    fill(memory, 2)
    seen = memory.table.snapshot()
    memory.extend(9.0)
    fill(memory, 2)
    assert [(block.id, block.end_s) for block in seen] == [(0, 0.0), (1, 1.0)]


def test_a_memory_made_in_inference_mode_is_usable_outside_it() -> None:
    with torch.inference_mode():
        memory, forgotten = memory_of(n_pages=1)
        fill(memory, 1)
    fill(memory, 1)
    assert forgotten == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        payload(0).float(),
        payload(0)[0],
        payload(0)[..., :-1],
        payload(0)[..., :0, :],
    ],
)
def test_a_payload_that_does_not_fit_the_layout_is_refused(wrong: Tensor) -> None:
    memory, _ = memory_of(n_pages=2)
    with pytest.raises(ValueError, match="does not fit"):
        memory.append(wrong, start_s=0.0, fidelity=Fidelity.CLEAR, score=0.0)


def test_extending_an_empty_memory_is_an_error() -> None:
    memory, _ = memory_of(n_pages=1)
    with pytest.raises(ValueError, match="no block"):
        memory.extend(1.0)


def test_ten_thousand_blocks_add_no_mappings_to_the_process() -> None:
    memory, forgotten = memory_of(n_pages=9_000)
    content = payload(0)
    counts = []
    for i in range(10_000):
        memory.append(content, start_s=float(i), fidelity=Fidelity.FUZZY, score=0.0)
        if i % 2_500 == 0:
            counts.append(len(Path("/proc/self/maps").read_text().splitlines()))
    counts.append(len(Path("/proc/self/maps").read_text().splitlines()))
    assert max(counts) - min(counts) < 10
    assert forgotten == list(range(1_000))


def test_on_a_gpu_fetched_payloads_are_cached_within_budget_and_leave_with_their_block() -> None:
    with nullcontext() if torch.cuda.is_available() else pretended_gpu():
        memory = BlockMemory(
            LAYOUT, device="cuda", device_budget_bytes=2 * PAGE_BYTES, host_budget_bytes=3 * PAGE_BYTES
        )
        fill(memory, 3)
        kept = memory.fetch([0, 1, 2])
        assert all(payload.is_cuda for payload in kept)
        assert memory.stats().device_bytes == 2 * PAGE_BYTES
        assert memory.fetch([2])[0] is kept[2]
        fill(memory, 3)
        assert memory.stats().device_bytes == 0
        assert all(torch.equal(got.cpu(), payload(i)) for i, got in enumerate(kept))
