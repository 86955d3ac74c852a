"""Oracle 1: while nothing is evicted, a stream decoder is the unmodified model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from generating import generated
from torch import Tensor

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}
SHAPES = [
    {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 2},
    {"n_layers": 3, "n_heads": 6, "n_kv_heads": 2, "head_dim": 6},
    {"n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "head_dim": 10},
    {"n_layers": 2, "n_heads": 3, "n_kv_heads": 1, "head_dim": 8},
]


def words(n_tokens: int, device: str, seed: int = 1) -> Tensor:
    return torch.randint(0, 61, (n_tokens,), generator=torch.Generator().manual_seed(seed)).to(device)


@torch.inference_mode()
def logits_in_chunks(decoder: StreamDecoder, embeddings: Tensor, chunks: list[int]) -> Tensor:
    context = decoder.new_context(len(embeddings))
    parts = [decoder.prefill(part, context)[0] for part in torch.split(embeddings, chunks)]
    assert context.n_tokens == len(embeddings)
    return decoder.logits(torch.cat(parts))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_chunking_gives_the_models_own_logits(
    make_model: Callable[..., Any],
    decoder_of: Callable[[Any], StreamDecoder],
    family: str,
    shape: dict[str, int],
    device: str,
) -> None:
    model = make_model(family, **shape)
    decoder, ids = decoder_of(model), words(30, device)
    with torch.inference_mode():
        expected, embeddings = model(ids[None]).logits[0], model.model.embed_tokens(ids)
    for chunks in ([30], [1] * 30, [7, 1, 13, 2, 1, 6]):
        got = logits_in_chunks(decoder, embeddings, chunks)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rope", [YARN, LLAMA3, LINEAR], ids=["yarn", "llama3", "linear"])
def test_scaled_rotary_embeddings_give_the_models_own_logits(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], rope: dict[str, Any], device: str
) -> None:
    model = make_model(rope_parameters=rope, max_position_embeddings=64)
    if rope is YARN:
        assert model.model.rotary_emb.attention_scaling > 1.1, "the case that needs care"
    ids = words(50, device)
    with torch.inference_mode():
        expected = model(ids[None]).logits[0]
        got = logits_in_chunks(decoder_of(model), model.model.embed_tokens(ids), [20, 1, 29])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_context_assembled_from_payloads_is_as_good_as_the_pass_that_made_them(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str, device: str
) -> None:
    model = make_model(family, n_layers=3)
    decoder, ids = decoder_of(model), words(30, device)
    with torch.inference_mode():
        embeddings = model.model.embed_tokens(ids)
        _, payload = decoder.prefill(embeddings[:22], decoder.new_context(22))
        context = decoder.new_context(30)
        for part in torch.split(payload, [5, 10, 7], dim=-2):
            context.append(KeyValues(part))
        got = decoder.logits(decoder.prefill(embeddings[22:], context)[0])
        expected = model(ids[None]).logits[0, 22:]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_answers_equal_generate_token_by_token(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str, seed: int, device: str
) -> None:
    model = make_model(family, seed=seed)
    decoder, ids = decoder_of(model), words(17, device, seed)
    asked = {"attention_mask": torch.ones_like(ids[None]), "max_new_tokens": 24, "do_sample": False}
    expected = model.generate(ids[None], **asked)[0, 17:].tolist()
    with torch.inference_mode():
        embeddings = model.model.embed_tokens(ids)
        context = decoder.new_context(17 + 24)
        decoder.prefill(embeddings[:12], context)
    generation = decoder.generate(embeddings[12:], context, max_tokens=24)
    assert list(generated(decoder, generation)) == expected
