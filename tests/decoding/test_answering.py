from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from generating import generated
from torch import Tensor

from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.decoding.rotary import Rotary, rotate
from streamvlm.retrieval.heads import RetrievalHead

BLOCKS = {40: 6, 41: 5, 77: 8}


@pytest.fixture
def embeddings(device: str) -> Tensor:
    return torch.randn(30, 24, generator=torch.Generator().manual_seed(8)).to(device)


@pytest.fixture
def question(embeddings: Tensor) -> Tensor:
    return embeddings[22:26]


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model(n_layers=3, attn_implementation="eager")


@pytest.fixture
def decoder(model: Any, decoder_of: Callable[[Any], StreamDecoder]) -> StreamDecoder:
    return decoder_of(model)


def remembered(decoder: StreamDecoder, embeddings: Tensor) -> Context:
    """Three sinks and three blocks, as one pass made them."""
    _, payload = decoder.prefill(embeddings[:22], decoder.new_context(22))
    context = decoder.new_context(60)
    parts = torch.split(payload, [3, *BLOCKS.values()], dim=-2)
    for part, block_id in zip(parts, [None, *BLOCKS], strict=True):
        context.append(KeyValues(part, block_id))
    return context


def test_evidence_is_the_models_own_attention_on_the_blocks(
    model: Any, decoder: StreamDecoder, device: str, embeddings: Tensor, question: Tensor
) -> None:
    heads = [RetrievalHead(1, 3), RetrievalHead(1, 0), RetrievalHead(2, 2)]
    generation = decoder.generate(question, remembered(decoder, embeddings), max_tokens=5, heads=heads)
    ids = list(generated(decoder, generation))
    with torch.inference_mode():
        tokens = model.model.embed_tokens(torch.tensor(ids, device=device))
        whole = torch.cat([embeddings[:26], tokens])[None]
        attentions = model(inputs_embeds=whole, output_attentions=True).attentions
    rows = torch.stack([attentions[head.layer][0, head.head, 22:] for head in heads]).mean((0, 1))
    spans = dict(zip(BLOCKS, torch.split(rows[3:22], list(BLOCKS.values())), strict=True))
    assert generation.evidence == pytest.approx({i: float(part.sum()) for i, part in spans.items()}, abs=1e-5)
    assert 0 < sum(generation.evidence.values()) <= 1


def test_evidence_finds_the_block_that_attention_was_planted_in(
    model: Any, decoder: StreamDecoder, device: str, question: Tensor
) -> None:
    context = decoder.new_context(40)
    query = decoder.probe(question[:1], context, [0])[0][2]  # (1, D); in layer 0 it depends on no context
    place, n_blocks, n_tokens = 13, 6, 4
    planted = torch.randn(decoder.layout.shape(n_blocks * n_tokens), generator=torch.Generator().manual_seed(9))
    planted = planted.to(device)
    turn_back = Rotary(model.model).turns(torch.tensor([n_blocks * n_tokens - place], device=device))
    planted[0, 0, 1, place] = rotate(40 * query / query.norm(), turn_back)[0]  # query head 2 reads KV head 1
    for block_id, payload in enumerate(torch.split(planted, n_tokens, dim=-2)):
        context.append(KeyValues(payload, block_id))
    generation = decoder.generate(question[:1], context, max_tokens=3, heads=[RetrievalHead(0, 2)])
    next(generated(decoder, generation))
    evidence = generation.evidence
    assert max(evidence, key=evidence.__getitem__) == place // n_tokens
    assert evidence[place // n_tokens] > 0.9
    assert sum(evidence.values()) <= 1 + 1e-6


def test_without_heads_there_is_no_evidence(decoder: StreamDecoder, embeddings: Tensor, question: Tensor) -> None:
    generation = decoder.generate(question, remembered(decoder, embeddings), max_tokens=2)
    list(generated(decoder, generation))
    assert generation.evidence == dict.fromkeys(BLOCKS, 0.0)


def test_a_stop_token_ends_the_answer_and_is_left_to_what_follows_up(
    decoder: StreamDecoder, embeddings: Tensor, question: Tensor
) -> None:
    free = list(generated(decoder, decoder.generate(question, remembered(decoder, embeddings), max_tokens=12)))
    stop = free[6]
    context = remembered(decoder, embeddings)
    generation = decoder.generate(question, context, max_tokens=12, stop_ids={stop})
    ids = list(generated(decoder, generation))
    assert ids == free[: free.index(stop)]
    assert context.n_tokens == 22 + len(question) + len(ids)
    assert generation.payload.shape == decoder.layout.shape(len(question) + len(ids))


def test_an_answer_that_ends_exactly_at_its_longest_is_whole_and_one_that_would_go_on_is_cut(
    decoder: StreamDecoder, embeddings: Tensor, question: Tensor
) -> None:
    free = list(generated(decoder, decoder.generate(question, remembered(decoder, embeddings), max_tokens=12)))
    stop, n_whole = free[6], free.index(free[6])
    lengths = []
    for most in (n_whole - 1, n_whole, n_whole + 1):
        generation = decoder.generate(question, remembered(decoder, embeddings), max_tokens=most, stop_ids={stop})
        assert not generation.is_cut
        lengths.append((len(list(generated(decoder, generation))), generation.is_cut))
    assert lengths == [(n_whole - 1, True), (n_whole, False), (n_whole, False)]


def test_a_kept_dialogue_is_as_good_as_going_on(decoder: StreamDecoder, embeddings: Tensor, question: Tensor) -> None:
    context = remembered(decoder, embeddings)
    generation = decoder.generate(question, context, max_tokens=7)
    ids = list(generated(decoder, generation))
    again = remembered(decoder, embeddings)
    again.append(KeyValues(generation.payload))
    assert again.n_tokens == context.n_tokens == 22 + len(question) + len(ids)
    gone_on, _ = decoder.prefill(embeddings[26:], context)
    kept, _ = decoder.prefill(embeddings[26:], again)
    torch.testing.assert_close(kept, gone_on, rtol=0, atol=1e-5)


def test_an_answer_broken_off_keeps_what_was_read(decoder: StreamDecoder, embeddings: Tensor, question: Tensor) -> None:
    context = remembered(decoder, embeddings)
    generation = decoder.generate(question, context, max_tokens=9)
    tokens = generated(decoder, generation)
    next(tokens), next(tokens)
    assert context.n_tokens == 22 + generation.payload.shape[-2] == 22 + len(question) + 1


def test_sampling_repeats_with_its_seed_and_follows_the_temperature(
    decoder: StreamDecoder, embeddings: Tensor, question: Tensor
) -> None:
    def answer(temperature: float, seed: int | None) -> list[int]:
        context = remembered(decoder, embeddings)
        generation = decoder.generate(question, context, max_tokens=12, temperature=temperature, seed=seed)
        return list(generated(decoder, generation))

    assert answer(3.0, seed=1) == answer(3.0, seed=1)
    assert answer(3.0, seed=1) != answer(3.0, seed=2)
    assert answer(1e-4, seed=1) == answer(0.0, seed=None)
