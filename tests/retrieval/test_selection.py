from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvlm.retrieval.selection import select_blocks

masses = st.lists(st.integers(0, 8), min_size=1, max_size=7)


@settings(deadline=None)
@given(masses=masses, top_k=st.integers(1, 8), percent=st.integers(1, 100), data=st.data())
def test_no_smaller_set_covers_as_much_and_no_set_of_that_size_covers_more(
    masses: list[int], top_k: int, percent: int, data: st.DataObject
) -> None:
    ids = data.draw(st.permutations(range(10, 10 + len(masses))))
    picked = select_blocks(torch.tensor(masses) / 8, ids, top_k, coverage=percent / 100)
    mass_of = dict(zip(ids, masses, strict=True))
    needed = sum(masses) * percent
    sizes = range(1, len(ids) + 1)
    enough = next(n for n in sizes if any(100 * covered(c, mass_of) >= needed for c in combinations(ids, n)))
    assert len(picked) == min(enough, top_k)
    assert covered(picked, mass_of) == max(covered(c, mass_of) for c in combinations(ids, len(picked)))
    assert picked == sorted(set(picked))


def covered(ids: list[int] | tuple[int, ...], mass_of: dict[int, int]) -> int:
    return sum(mass_of[i] for i in ids)


def test_peaked_scores_need_one_block_and_flat_ones_all_that_are_allowed() -> None:
    peaked = torch.tensor([0.01, 0.97, 0.01, 0.01])
    assert select_blocks(peaked, [3, 4, 5, 6], top_k=3, coverage=0.95) == [4]
    assert select_blocks(torch.full((4,), 0.25), [3, 4, 5, 6], top_k=3, coverage=0.95) == [4, 5, 6]


def test_of_equal_scores_the_newer_blocks_win_in_any_order_of_ids() -> None:
    assert select_blocks(torch.ones(4), [8, 2, 9, 5], top_k=2, coverage=0.95) == [8, 9]


@pytest.mark.parametrize("scores", [[-3.0, -1.0, -2.0], [-1.0, 1.0, 0.0]])
def test_scores_below_zero_are_ranked_too(scores: list[float]) -> None:
    assert select_blocks(torch.tensor(scores), [0, 1, 2], top_k=2, coverage=0.95) == [1, 2]


def test_scores_that_are_all_zero_give_the_newest_block_and_no_blocks_give_none() -> None:
    assert select_blocks(torch.zeros(3), [4, 6, 5], top_k=3, coverage=0.95) == [6]
    assert select_blocks(torch.zeros(0), [], top_k=3, coverage=0.95) == []
