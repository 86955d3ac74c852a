from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout, KVBlock
from streamvlm.retrieval import key_index
from streamvlm.retrieval.attention_mass import AttentionMassScorer
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.retrieval.mean_key import MeanKeyScorer
from streamvlm.retrieval.scorer import BlockScorer
from streamvlm.retrieval.selection import select_blocks

N_QUERY_HEADS = 6
LAYOUT = BlockLayout(n_layers=3, n_kv_heads=2, head_dim=16, dtype=torch.float32)
HEADS = [
    RetrievalHead(2, 5),
    RetrievalHead(0, 1),
    RetrievalHead(2, 3),
]  # the last shares its keys with the first


def attention_mass(device: str, layout: BlockLayout = LAYOUT) -> BlockScorer:
    return AttentionMassScorer(HEADS, N_QUERY_HEADS, layout, device)


def mean_key(device: str, layout: BlockLayout = LAYOUT) -> BlockScorer:
    return MeanKeyScorer(N_QUERY_HEADS, layout, device)


Build = Callable[..., BlockScorer]


SCORERS = [attention_mass, mean_key]


def block(block_id: int, n_tokens: int) -> KVBlock:
    return KVBlock(block_id, float(block_id), float(block_id), Fidelity.CLEAR, 0.0, n_tokens)


def add(scorer: BlockScorer, block_id: int, payload: Tensor) -> None:
    scorer.add(block(block_id, payload.shape[3]), payload)


def random_payload(seed: int, n_tokens: int, layout: BlockLayout = LAYOUT) -> Tensor:
    return torch.randn(layout.shape(n_tokens), generator=torch.Generator().manual_seed(seed)).to(layout.dtype)


def question(seed: int, n_tokens: int = 5, layout: BlockLayout = LAYOUT) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (N_QUERY_HEADS, n_tokens, layout.head_dim)
    return {i: 3 * torch.randn(shape, generator=generator) for i in range(layout.n_layers)}


def naive_attention_mass(queries: dict[int, Tensor], payloads: dict[int, Tensor], ids: list[int]) -> Tensor:
    scores = torch.zeros(len(ids))
    for head in HEADS:
        keys = torch.cat([payloads[i][head.layer, 0, head.head // 3].float() for i in ids])
        attention = (queries[head.layer][head.head] @ keys.T / math.sqrt(LAYOUT.head_dim)).softmax(-1)[-1]
        parts = torch.split(attention, [payloads[i].shape[3] for i in ids])
        scores = torch.maximum(scores, torch.stack([part.sum() for part in parts]))
    return scores


def naive_mean_key(queries: dict[int, Tensor], payloads: dict[int, Tensor], ids: list[int]) -> Tensor:
    """ReKV's own form: every KV head repeated for its query heads, divided by the size of a group."""
    query = torch.stack([queries[layer].mean(1) for layer in range(3)])
    keys = [payloads[i][:, 0].float().mean(2).repeat_interleave(3, dim=1) for i in ids]
    return torch.stack([(query * key).sum() / 3 for key in keys])


@pytest.mark.parametrize(("build", "naive"), [(attention_mass, naive_attention_mass), (mean_key, naive_mean_key)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_scores_equal_a_naive_reference_whatever_came_went_and_is_asked_for(
    build: Build,
    naive: Callable[[dict[int, Tensor], dict[int, Tensor], list[int]], Tensor],
    dtype: torch.dtype,
    data: st.DataObject,
    device: str,
) -> None:
    layout = BlockLayout(LAYOUT.n_layers, LAYOUT.n_kv_heads, LAYOUT.head_dim, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "CHUNK_BYTES", 30 * layout.head_dim * 4)  # many chunks of 30 rows
        scorer = build(device, layout)
    payloads: dict[int, Tensor] = {}
    for block_id in range(data.draw(st.integers(1, 12))):
        payloads[block_id] = random_payload(block_id, data.draw(st.integers(1, 40)), layout)
        add(scorer, block_id, payloads[block_id])
        gone = data.draw(st.lists(st.sampled_from(sorted(payloads)), max_size=2, unique=True))
        scorer.forget(gone)
        payloads = {i: payload for i, payload in payloads.items() if i not in gone}
    ids = data.draw(st.lists(st.sampled_from(sorted(payloads)), unique=True)) if payloads else []
    queries = question(0)
    got = scorer.score(queries, ids)
    assert got.dtype is torch.float32
    expected = naive(queries, payloads, ids) if ids else torch.zeros(0)
    torch.testing.assert_close(got.cpu(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", SCORERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [16, 72])
def test_identical_content_at_different_times_gets_exactly_the_same_score(
    build: Build, dtype: torch.dtype, head_dim: int, device: str
) -> None:
    layout = BlockLayout(n_layers=3, n_kv_heads=2, head_dim=head_dim, dtype=dtype)
    scorer = build(device, layout)
    content = random_payload(0, 17, layout)
    for block_id in range(300):
        add(
            scorer,
            block_id,
            content if block_id % 3 == 0 else random_payload(block_id, 9 + block_id % 23, layout),
        )
    scorer.forget(range(1, 100, 3))
    for block_id in range(300, 330):  # into the rows of the forgotten, scattered
        add(scorer, block_id, content)
    twins = [*range(0, 300, 3), *range(300, 330)]
    ids = sorted([*twins, *range(2, 300, 3)])
    scores = dict(zip(ids, scorer.score(question(1, 12, layout), ids).tolist(), strict=True))
    assert len({scores[i] for i in twins}) == 1


def test_masses_of_a_single_head_add_up_to_one_over_the_candidates_alone(device: str) -> None:
    scorer = AttentionMassScorer([RetrievalHead(1, 0)], N_QUERY_HEADS, LAYOUT, device)
    for block_id in range(30):
        add(scorer, block_id, random_payload(block_id, 7))
    assert float(scorer.score(question(0), range(10, 20)).sum()) == pytest.approx(1, abs=1e-6)


def test_huge_logits_do_not_overflow(device: str) -> None:
    scorer = AttentionMassScorer([RetrievalHead(1, 0)], N_QUERY_HEADS, LAYOUT, device)
    add(scorer, 0, 1e4 * torch.ones(LAYOUT.shape(3)))
    add(scorer, 1, -1e4 * torch.ones(LAYOUT.shape(3)))
    queries = {1: 1e4 * torch.ones(N_QUERY_HEADS, 2, LAYOUT.head_dim)}
    assert scorer.score(queries, [0, 1]).tolist() == pytest.approx([1, 0])


def test_a_planted_needle_is_found_among_a_thousand_blocks_by_either_scorer(device: str) -> None:
    for build in SCORERS:
        scorer = build(device)
        for block_id in range(1000):
            add(scorer, block_id, random_payload(block_id, 8))
        queries = question(7)
        needle = random_payload(1000, 8)
        for layer, query in queries.items():
            for kv_head in range(2):
                needle[layer, 0, kv_head] += query[3 * kv_head : 3 * kv_head + 3].mean(dim=(0, 1))
        needle[2, 0, 1, 4] = 2 * queries[2][5][-1]
        add(scorer, 1000, needle)
        scores = scorer.score(queries, range(1001))
        assert int(scores.argmax()) == 1000
        assert 1000 in select_blocks(scores, range(1001), top_k=4, coverage=0.95)


def test_a_needle_token_in_a_mixed_block_is_lost_in_the_mean_but_not_in_attention(device: str) -> None:
    queries = question(3)
    direction = queries[2][5][-1]
    scorers = [build(device) for build in SCORERS]
    for block_id in range(200):
        payload = random_payload(block_id, 16)
        if block_id == 50:  # one token answers, the others point away: their mean says nothing
            payload[2, 0, 1, 3] = 4 * direction
            payload[2, 0, 1, 4:8] -= direction
        for scorer in scorers:
            add(scorer, block_id, payload)
    by_attention, by_mean = (scorer.score(queries, range(200)) for scorer in scorers)
    assert int(by_attention.argmax()) == 50
    assert 50 not in by_mean.topk(8).indices


def test_a_scorer_names_the_layers_whose_queries_it_reads(device: str) -> None:
    assert list(attention_mass(device).layers) == [0, 2]
    assert list(mean_key(device).layers) == [0, 1, 2]


@pytest.mark.parametrize("build", SCORERS)
def test_no_candidates_give_no_scores_and_forgotten_ones_an_error(build: Build, device: str) -> None:
    scorer = build(device)
    assert scorer.score(question(0), []).shape == (0,)
    add(scorer, 0, random_payload(0, 3))
    scorer.forget([0])
    with pytest.raises(KeyError):
        scorer.score(question(0), [0])


@pytest.mark.parametrize("build", SCORERS)
def test_blocks_added_in_inference_mode_can_be_scored_and_forgotten_outside_it(build: Build, device: str) -> None:
    with torch.inference_mode():
        scorer = build(device)
        add(scorer, 0, random_payload(0, 3))
    tracked = {layer: query.requires_grad_() for layer, query in question(0).items()}
    assert scorer.score(tracked, [0]).shape == (1,)
    scorer.forget([0])
    add(scorer, 1, random_payload(1, 3))
    assert scorer.score(tracked, [1]).shape == (1,)


@pytest.mark.parametrize("build", SCORERS)
def test_an_index_of_a_bounded_memory_stops_growing(build: Build, device: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "CHUNK_BYTES", 256 * LAYOUT.head_dim * 4)
        scorer: Any = build(device)
    payloads = [random_payload(i, n_tokens) for i, n_tokens in enumerate([5, 17, 9])]
    sizes = []
    for block_id in range(2000):
        add(scorer, block_id, payloads[block_id % 3])
        if block_id >= 100:
            scorer.forget([block_id - 100])
        sizes.append(sum(chunk.keys.nbytes + chunk.owners.nbytes for chunk in scorer._index._chunks))
    assert sizes[-1] == sizes[200] > sizes[0] / 2


@pytest.mark.parametrize("heads", [[], [RetrievalHead(3, 0)], [RetrievalHead(0, 6)]])
def test_heads_that_the_model_does_not_have_are_refused(heads: list[RetrievalHead], device: str) -> None:
    with pytest.raises(ValueError, match="retrieval heads"):
        AttentionMassScorer(heads, N_QUERY_HEADS, LAYOUT, device)
