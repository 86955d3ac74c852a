"""Sets on how many cores a thread computes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

_BEGINNING = threading.Lock()
"""Held while a thread begins: torch keeps in one place, for the whole process, what threads to come begin with."""


def compute_alone() -> None:
    """Lets the calling thread compute on one core, whatever others do.

    Every thread that computes in parallel has a team of its own, and once all teams together outnumber the cores,
    OpenMP lets their members sleep between operations: then the small operations of an answer take half as long
    again, for as long as the second team exists. So only the thread that owns the model has a team.
    """
    # A thread's number cannot be set without that of threads to come. So that is asked for, and put back, on a thread
    # that nobody needs: this one may have another number already.
    with _BEGINNING, ThreadPoolExecutor(1) as to_come:
        n_threads = to_come.submit(torch.get_num_threads).result()
        torch.get_num_threads()  # takes what threads begin with, and does so only once
        torch.set_num_threads(1)
        to_come.submit(torch.set_num_threads, n_threads).result()


def compute_in_team() -> None:
    """Lets the calling thread, which has not computed yet, do so on all cores, whatever others do."""
    with _BEGINNING:
        torch.get_num_threads()  # takes what threads begin with, and does so only once


def in_passing(function: Callable[[], T]) -> T:
    """Calls a function on a thread of its own, which then ends with its team of threads, and returns the result."""
    with ThreadPoolExecutor(1, initializer=compute_in_team) as passing:
        return passing.submit(function).result()
