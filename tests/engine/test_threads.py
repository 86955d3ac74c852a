"""Threads beside the model's own keep off the other cores."""

from __future__ import annotations

import threading

import torch

from streamvlm.engine.threads import compute_alone


def test_a_thread_computes_alone_and_changes_nothing_for_others() -> None:
    before, seen = torch.get_num_threads(), dict[str, int]()

    def aside() -> None:
        compute_alone()
        seen["aside"] = torch.get_num_threads()

    def later() -> None:
        seen["later"] = torch.get_num_threads()

    for work in (aside, later):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == {"aside": 1, "later": before}
    assert torch.get_num_threads() == before
