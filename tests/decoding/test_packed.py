"""Several contexts in one pass: each is extended, and each answer goes on, as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from generating import generated
from torch import Tensor

from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import Addition, Generation, StreamDecoder
from streamvlm.retrieval.heads import RetrievalHead

HEADS = (RetrievalHead(1, 3), RetrievalHead(0, 0))
SIZES = [(0, 4), (11, 1), (7, 5), (20, 1)]
"""Tokens there already, and tokens to add."""


@pytest.fixture
def embeddings(device: str) -> Tensor:
    return torch.randn(60, 24, generator=torch.Generator().manual_seed(3)).to(device)


@pytest.fixture(params=["llama", "qwen2"])
def decoder(
    request: pytest.FixtureRequest, make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder]
) -> StreamDecoder:
    return decoder_of(make_model(request.param, n_layers=3))


def context_of(decoder: StreamDecoder, embeddings: Tensor, n_tokens: int, room: int = 20) -> Context:
    context = decoder.new_context(n_tokens + room)
    if n_tokens:
        _, payload = decoder.prefill(embeddings[:n_tokens], decoder.new_context(n_tokens))
        context.append(KeyValues(payload, block_id=n_tokens))
    return context


def additions(decoder: StreamDecoder, embeddings: Tensor) -> list[Addition]:
    return [
        Addition(embeddings[30 + i : 30 + i + n_new], context_of(decoder, embeddings, n_old), predicts=i != 1)
        for i, (n_old, n_new) in enumerate(SIZES)
    ]


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_contexts_extended_together_are_as_extended_alone(decoder: StreamDecoder, embeddings: Tensor) -> None:
    packed = additions(decoder, embeddings)
    together = decoder.extend(packed)
    for (n_old, n_new), addition, read, single in zip(
        SIZES, packed, together, additions(decoder, embeddings), strict=True
    ):
        (alone,) = decoder.extend([single])
        assert addition.context.n_tokens == n_old + n_new
        close(read.hidden, alone.hidden)
        close(read.payload, alone.payload)
        if single.predicts:
            assert read.logits is not None
            assert alone.logits is not None
            close(read.logits, alone.logits)
        else:
            assert read.logits is alone.logits is None


def test_a_context_without_room_spoils_no_other(decoder: StreamDecoder, embeddings: Tensor) -> None:
    good, full = context_of(decoder, embeddings, 7), context_of(decoder, embeddings, 5, room=1)
    with pytest.raises(ValueError, match="cannot hold"):
        decoder.extend([Addition(embeddings[:2], good), Addition(embeddings[:2], full)])
    assert (good.n_tokens, full.n_tokens) == (7, 5)


def test_answers_decoded_together_are_as_decoded_alone(decoder: StreamDecoder, embeddings: Tensor) -> None:
    def begun() -> list[Generation]:
        return [
            decoder.generate(
                embeddings[40 : 43 + i],
                context_of(decoder, embeddings, n_old),
                max_tokens=4 + 3 * i,
                heads=HEADS,
                stop_ids={7, 20},
            )
            for i, n_old in enumerate((3, 12, 8))
        ]

    alone = [(list(generated(decoder, generation)), generation) for generation in begun()]
    together, ids = begun(), list[list[int]]([[], [], []])
    while under_way := [i for i, generation in enumerate(together) if generation.addition is not None]:
        reads = decoder.extend([a for i in under_way if (a := together[i].addition) is not None])
        for i, read in zip(under_way, reads, strict=True):
            if (token := together[i].take(read)) is not None:
                ids[i].append(token)
    assert ids == [told for told, _ in alone]
    assert len({len(told) for told in ids}) > 1, "answers of one length would end together and prove less"
    for generation, (_, single) in zip(together, alone, strict=True):
        close(generation.payload, single.payload)
        assert generation.evidence == pytest.approx(single.evidence, abs=1e-5)
