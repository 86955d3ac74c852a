"""Threads beside the model's own keep off the other cores and leave it all of them, however many begin at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from streamvlm.archive.compute_threads import compute_alone, compute_in_team, in_passing

N_TRIALS = 20


@pytest.fixture(autouse=True)
def three_cores() -> Iterator[None]:
    """A number that is neither one nor what a thread would begin with by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def on_threads(*works: Callable[[], None]) -> list[int]:
    """How many cores each of these leaves the thread with that does it, all threads beginning at once."""
    together, seen = threading.Barrier(len(works)), [0] * len(works)

    def run(index: int) -> None:
        together.wait()
        works[index]()
        seen[index] = torch.get_num_threads()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def nothing() -> None: ...


def test_a_thread_computes_alone_and_changes_nothing_for_others() -> None:
    assert on_threads(compute_alone) == [1]
    assert on_threads(nothing) == [3]
    assert torch.get_num_threads() == 3


def test_threads_that_begin_at_once_to_compute_alone_change_nothing_for_those_to_come() -> None:
    for _ in range(N_TRIALS):
        assert on_threads(*[compute_alone] * 8) == [1] * 8
        assert on_threads(nothing) == [3]


def test_a_thread_that_has_begun_may_be_told_again_to_compute_alone() -> None:
    def twice() -> None:
        compute_alone()
        compute_alone()

    assert on_threads(twice) == [1]
    assert on_threads(nothing) == [3]


def test_the_models_thread_keeps_its_cores_when_it_begins_among_threads_that_compute_alone() -> None:
    for _ in range(N_TRIALS):
        seen = on_threads(*[compute_alone, compute_in_team] * 4)
        assert seen == [1, 3] * 4


def test_what_is_computed_in_passing_has_all_cores_whatever_begins_beside_it() -> None:
    def passing() -> None:
        assert in_passing(torch.get_num_threads) == 3

    for _ in range(N_TRIALS):
        assert on_threads(*[compute_alone, passing] * 4)[::2] == [1] * 4
