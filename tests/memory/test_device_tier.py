from __future__ import annotations

import torch

from streamvlm.memory.device_tier import DeviceTier


def payload(value: int, n_bytes: int = 10) -> torch.Tensor:
    return torch.full((n_bytes,), value, dtype=torch.uint8)


def test_the_least_recently_fetched_payload_makes_place() -> None:
    cache = DeviceTier(budget_bytes=25)
    cache.put(1, payload(1))
    cache.put(2, payload(2))
    assert cache.get(1) is not None
    cache.put(3, payload(3))
    assert cache.get(2) is None
    assert [int(kept[0]) for kept in (cache.get(1), cache.get(3)) if kept is not None] == [1, 3]
    assert cache.used_bytes == 20


def test_a_payload_above_the_whole_budget_is_not_kept_and_displaces_nothing() -> None:
    cache = DeviceTier(budget_bytes=25)
    cache.put(1, payload(1))
    cache.put(2, payload(2, n_bytes=26))
    assert cache.get(2) is None
    assert cache.get(1) is not None


def test_dropping_frees_its_bytes_and_dropping_again_changes_nothing() -> None:
    cache = DeviceTier(budget_bytes=25)
    cache.put(1, payload(1))
    cache.drop(1)
    cache.drop(1)
    assert cache.get(1) is None
    assert cache.used_bytes == 0
