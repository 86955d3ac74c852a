"""How many cores a thread may compute on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def compute_alone() -> None:
    """Lets the calling thread compute on one core, whatever others do.

    Every thread that computes in parallel has a team of its own, and once all teams together outnumber the cores,
    OpenMP lets their members sleep between operations: then the small operations of an answer take half as long
    again, for as long as the second team exists. So only the thread that owns the model has a team.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # That is also what threads to come would begin with: put back from a thread that nobody needs.
    restore = threading.Thread(target=torch.set_num_threads, args=(n_threads,))
    restore.start()
    restore.join()


def in_passing(function: Callable[[], T]) -> T:
    """What a function gives that computes on a thread which then ends, and its team of threads with it."""
    with ThreadPoolExecutor(1) as passing:
        return passing.submit(function).result()
