from __future__ import annotations

import torch

from streamvlm.calibration.head_ranking import Trial, keep_smallest, rank_retrieval_heads
from streamvlm.retrieval.heads import RetrievalHead

LAYERS, HEADS, KV_HEADS, D = 3, 4, 2, 8


def planted_trials(finders: dict[RetrievalHead, list[int]], n_trials: int = 12) -> list[Trial]:
    """Each finder's query points at the right block in the trials given for it; other queries are zero.

    What is sought is a direction of each KV head, and the first token of the right block holds it.
    """
    generator = torch.Generator().manual_seed(0)
    trials = []
    for t in range(n_trials):
        sought = torch.nn.functional.normalize(torch.randn(LAYERS, KV_HEADS, D, generator=generator), dim=-1)
        lengths = torch.randint(2, 6, (7,), generator=generator).tolist()
        payloads = [0.1 * torch.randn(LAYERS, 2, KV_HEADS, n, D, generator=generator) for n in lengths]
        right = int(torch.randint(0, 7, (), generator=generator))
        payloads[right][:, 0, :, 0] = sought
        queries = {layer: torch.zeros(HEADS, 3, D) for layer in range(LAYERS)}
        for head, chosen in finders.items():
            if t in chosen:
                queries[head.layer][head.head] = 30 * sought[head.layer, head.head // (HEADS // KV_HEADS)]
        trials.append(Trial(queries, payloads, right))
    return trials


def test_the_head_that_finds_the_block_comes_first_and_is_enough() -> None:
    finder = RetrievalHead(1, 3)
    trials = planted_trials({finder: list(range(12)), RetrievalHead(2, 0): [0, 1, 2]})
    ranks = rank_retrieval_heads(trials)
    assert len(ranks) == LAYERS * HEADS
    assert (ranks[0].head, ranks[0].first, ranks[0].reciprocal) == (finder, 1.0, 1.0)
    assert keep_smallest(ranks, trials) == (finder,)


def test_heads_that_find_different_blocks_are_kept_together() -> None:
    one, other = RetrievalHead(0, 1), RetrievalHead(2, 2)
    trials = planted_trials({one: list(range(7)), other: list(range(5, 12))})
    ranks = rank_retrieval_heads(trials)
    assert {rank.head for rank in ranks[:2]} == {one, other}
    assert set(keep_smallest(ranks, trials)) == {one, other}


def test_a_head_that_cannot_tell_blocks_apart_earns_nothing() -> None:
    same = torch.ones(LAYERS, 2, KV_HEADS, 3, D)
    queries = {0: torch.randn(HEADS, 2, D)}
    ranks = rank_retrieval_heads([Trial(queries, [same] * 5, right=0)])
    assert [rank.first for rank in ranks] == [0.0] * HEADS
    assert [round(rank.reciprocal, 6) for rank in ranks] == [0.2] * HEADS


def test_equal_shares_are_ranked_by_reciprocal_rank() -> None:
    generator = torch.Generator().manual_seed(1)
    trials = [
        Trial(
            {0: torch.randn(HEADS, 2, D, generator=generator)},
            [torch.randn(1, 2, KV_HEADS, 3, D, generator=generator) for _ in range(6)],
            right=2,
        )
        for _ in range(5)
    ]
    ranks = rank_retrieval_heads(trials)
    order = [(rank.first, rank.reciprocal) for rank in ranks]
    assert order == sorted(order, reverse=True)
    assert len({first for first, _ in order}) < len(order), "some shares are equal"


def test_a_blocks_score_is_the_maximum_over_heads() -> None:
    # For each trial the right block, and the masses that two heads put on three blocks of one token each.
    planted = [
        (0, [[0.5, 0.4, 0.1], [0.02, 0.49, 0.49]]),
        (1, [[0.4, 0.3, 0.3], [0.1, 0.8, 0.1]]),
        (0, [[0.6, 0.2, 0.2], [0.1, 0.45, 0.45]]),
    ]
    trials = []
    for right, masses in planted:
        logits = torch.tensor(masses).log().T[:, None, None, :, None, None]  # as (blocks, L, 2, K, N, D)
        trials.append(Trial({0: torch.ones(2, 1, 1)}, list(logits.expand(-1, -1, 2, -1, -1, -1)), right))
    ranks = rank_retrieval_heads(trials)
    assert [(rank.head.head, round(3 * rank.first)) for rank in ranks] == [(0, 2), (1, 1)]
    assert keep_smallest(ranks, trials) == (RetrievalHead(0, 0), RetrievalHead(0, 1))
