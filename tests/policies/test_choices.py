"""Which blocks each policy gives a question: sums that were done by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.gate.gate import CurvatureGate, GateConfig
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.policies.base import Candidates, MemoryPolicy, PolicySettings
from streamvlm.policies.registry import find_policy
from streamvlm.retrieval.heads import RetrievalHead

LAYOUT = BlockLayout(n_layers=2, n_kv_heads=1, head_dim=4, dtype=torch.float32)
X = torch.tensor([1.0, 0.0, 0.0, 0.0])
QUERIES = {layer: 2.0 * X.expand(1, 1, 4) for layer in range(LAYOUT.n_layers)}
"""Of a question of one token: with a key of k X, its logit is 2 k / sqrt(4) = k."""


def made(name: str, **settings: Any) -> MemoryPolicy:
    given = {"gate": GateConfig(), "top_k": 4, "coverage": 0.5, "heads": [RetrievalHead(1, 0)], "n_query_heads": 1}
    return find_policy(name)(PolicySettings(**{**given, "layout": LAYOUT, **settings}))


def candidates(spans_s: Sequence[tuple[float, float]], n_older: int, first_id: int = 10) -> Candidates:
    blocks = tuple(
        KVBlock(first_id + i, start_s, end_s, Fidelity.CLEAR, 0.0, 1) for i, (start_s, end_s) in enumerate(spans_s)
    )
    return Candidates(blocks, np.array([block.id for block in blocks]), n_older)


def seconds(n: int, n_older: int) -> Candidates:
    return candidates([(float(i), float(i)) for i in range(n)], n_older)


def indexed(policy: MemoryPolicy, keys: Sequence[Sequence[float]]) -> Candidates:
    """Blocks of which each has, in layer 1, keys k X for some numbers k, a token each; none is in the window."""
    seen = seconds(len(keys), len(keys))
    for block, own in zip(seen.blocks, keys, strict=True):
        payload = torch.zeros(LAYOUT.shape(len(own)))
        payload[1, 0, 0] = torch.tensor(own)[:, None] * X
        policy.index.add(block, payload)
    return seen


def chosen(policy: MemoryPolicy, seen: Candidates, queries: dict[int, Tensor] | None = None) -> list[int]:
    return [int(block_id) for block_id in policy.choose(seen, queries or {})]


def test_recent_takes_the_newest_blocks_before_the_window() -> None:
    assert chosen(made("recent", top_k=3), seconds(8, n_older=5)) == [12, 13, 14]
    assert chosen(made("recent", top_k=9), seconds(8, n_older=5)) == [10, 11, 12, 13, 14]


def test_uniform_takes_the_blocks_that_stand_for_evenly_spread_moments_before_the_window() -> None:
    spans_s = [(0.0, 9.0), (10.0, 11.0), (12.0, 13.0), (14.0, 49.0), (50.0, 89.0), (90.0, 100.0), (101.0, 101.0)]
    # Four spans of 25 s up to 100 s: their middles are 12.5, 37.5, 62.5 and 87.5 s.
    assert chosen(made("uniform"), candidates(spans_s, n_older=6)) == [12, 13, 14]
    # Ten of 10 s: 5, 15, ... 95 s.
    assert chosen(made("uniform", top_k=10), candidates(spans_s, n_older=6)) == [10, 13, 14, 15]
    assert chosen(made("uniform"), candidates(spans_s, n_older=1)) == [10]
    assert chosen(made("uniform"), seconds(3, n_older=1)) == [10], "a block that stands for a moment alone"


def test_everything_is_every_block_beyond_top_k_too() -> None:
    assert chosen(made("everything", top_k=1), seconds(9, n_older=5)) == list(range(10, 19))


def test_random_draws_as_many_as_top_k_in_order_of_time_and_every_block_as_often_as_another() -> None:
    policy, seen = made("random", top_k=4), seconds(20, n_older=20)
    draws = [chosen(policy, seen) for _ in range(1000)]
    assert all(len(draw) == 4 and draw == sorted(set(draw)) for draw in draws)
    counts = Counter(block_id for draw in draws for block_id in draw)
    assert set(counts) == set(range(10, 30))
    assert all(150 < n < 250 for n in counts.values()), "of 1,000 draws of 4 of 20: 200, with a deviation of 13"


def test_random_draws_the_same_in_every_session() -> None:
    one, other = made("random"), made("random")
    seen = seconds(20, n_older=20)
    assert [chosen(one, seen) for _ in range(5)] == [chosen(other, seen) for _ in range(5)]


def test_streamvlm_takes_as_few_blocks_as_carry_enough_of_the_retrieval_heads_attention() -> None:
    shares = [[math.log(n)] for n in (1.0, 6.0, 2.0, 1.0)]  # of 10 parts of the softmax
    for coverage, expected in ((0.5, [11]), (0.7, [11, 12]), (0.85, [11, 12, 13])):
        policy = made("streamvlm", coverage=coverage)
        assert policy.layers == [1]
        assert chosen(policy, indexed(policy, shares), QUERIES) == expected
    one_at_most = made("streamvlm", coverage=0.85, top_k=1)
    assert chosen(one_at_most, indexed(one_at_most, shares), QUERIES) == [11]


def test_mean_key_takes_the_block_whose_mean_key_agrees_where_the_heads_see_the_one_token_that_matters() -> None:
    keys = [[3.0, -3.0], [1.0, 1.0], [0.0, 0.0]]  # mean keys: 0, 1, 0
    by_mean, by_heads = made("mean-key"), made("streamvlm")
    assert list(by_mean.layers) == [0, 1]
    assert chosen(by_mean, indexed(by_mean, keys), QUERIES) == [11]
    assert chosen(by_heads, indexed(by_heads, keys), QUERIES) == [10], "e^3 of e^3 + e^-3 + 2 e + 2"


def test_what_is_forgotten_is_ranked_no_more() -> None:
    for name in ("streamvlm", "mean-key"):
        policy = made(name)
        seen = indexed(policy, [[1.0], [3.0], [2.0]])
        policy.index.forget([11])
        left = Candidates((seen.blocks[0], seen.blocks[2]), np.array([10, 12]), 2)
        assert chosen(policy, left, QUERIES) == [12]
        with pytest.raises(KeyError):
            policy.choose(seen, QUERIES)


def test_curvestream_paper_takes_the_newest_twenty_whatever_top_k_says() -> None:
    assert chosen(made("curvestream-paper", top_k=3), seconds(30, n_older=22)) == list(range(20, 40))
    assert chosen(made("curvestream-paper"), seconds(12, n_older=4)) == list(range(10, 22))


def test_curvestream_paper_judges_by_the_published_numbers_whatever_the_session_sets() -> None:
    rng = np.random.default_rng(5)
    features = [torch.from_numpy(feature) for feature in rng.standard_normal((200, 16))]
    ours = GateConfig(curvature_weight=9.0, k_fuzzy=2.0, k_clear=3.0, half_life_s=7.0, max_gap_s=2.0)
    published = CurvatureGate(GateConfig(variant="paper", half_life_s=7.0, max_gap_s=1e9))
    gate = made("curvestream-paper", gate=ours).gate
    decisions = [gate.decide(feature, float(i)) for i, feature in enumerate(features)]
    assert decisions == [published.decide(feature, float(i)) for i, feature in enumerate(features)]
    assert len({decision.fidelity for decision in decisions}) == 3
