from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvlm.memory.block import PAGE_BYTES
from streamvlm.memory.host_arena import Extent, SlabArena

moves = st.lists(st.one_of(st.integers(1, 5 * PAGE_BYTES), st.just("free")), max_size=60)


@settings(deadline=None)
@given(n_pages=st.integers(0, 24), moves=moves, data=st.data())
def test_extents_never_overlap_and_a_none_means_that_no_hole_was_large_enough(
    n_pages: int, moves: list[int | str], data: st.DataObject
) -> None:
    arena = SlabArena(n_pages * PAGE_BYTES + 17)
    taken: list[Extent] = []
    for move in moves:
        if isinstance(move, int):
            extent = arena.alloc(move)
            if extent is None:
                assert largest_gap(taken, n_pages * PAGE_BYTES) < move
            else:
                assert 0 <= extent.n_bytes - move < PAGE_BYTES
                taken.append(extent)
        elif taken:
            arena.free(taken.pop(data.draw(st.integers(0, len(taken) - 1))))
        assert arena.used_bytes == sum(extent.n_bytes for extent in taken) <= arena.budget_bytes
        assert all(a.stop <= b.start for a, b in pairwise(sorted(taken)))
    for extent in taken:
        arena.free(extent)
    assert n_pages == 0 or arena.alloc(n_pages * PAGE_BYTES) == (0, n_pages * PAGE_BYTES)


def largest_gap(taken: list[Extent], budget_bytes: int) -> int:
    edges = [Extent(0, 0), *sorted(taken), Extent(budget_bytes, budget_bytes)]
    return max(b.start - a.stop for a, b in pairwise(edges))


def test_a_view_shows_and_changes_only_its_own_bytes() -> None:
    arena = SlabArena(2 * PAGE_BYTES)
    first, second = arena.alloc(PAGE_BYTES), arena.alloc(PAGE_BYTES)
    assert first is not None
    assert second is not None
    arena.view(first).fill_(1)
    arena.view(second).fill_(2)
    assert torch.equal(arena.view(first), torch.ones(PAGE_BYTES, dtype=torch.uint8))


def test_a_large_budget_takes_no_ram_until_it_is_used() -> None:
    before = resident_pages()
    arena = SlabArena(1 << 32)
    assert arena.alloc(1 << 30) is not None
    assert (resident_pages() - before) * PAGE_BYTES < 64 << 20


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])
