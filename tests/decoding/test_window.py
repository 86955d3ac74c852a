"""Oracles 2 and 4: past the window, attention is over exactly the kept tokens at their new positions."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from streamvlm.decoding.context import Kept
from streamvlm.decoding.decoder import StreamDecoder

SINKS, WINDOW = 3, 2
PlainKept = list[list[tuple[Tensor, Tensor]]]
"""The plain reference's tokens: for each layer, raw key (K, D) and value (K, D) of each token."""


def turned(vector: Tensor, position: int, theta: float) -> Tensor:
    """Rotary embedding of one vector (D,), written out: pairs of halves are complex numbers."""
    half = len(vector) // 2
    turned = [
        complex(vector[i], vector[half + i]) * cmath.exp(1j * position * theta ** (-i / half)) for i in range(half)
    ]
    return torch.tensor([z.real for z in turned] + [z.imag for z in turned])


def plain_pass(model: Any, embeddings: Tensor, kept: PlainKept) -> tuple[Tensor, PlainKept]:
    """Token by token, layer by layer, head by head: logits (N, vocabulary) and the new tokens' kept parts."""
    config = model.config
    n_heads, n_kv_heads, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    theta = config.rope_parameters["rope_theta"]
    seen: PlainKept = [list(layer) for layer in kept]
    logits = []
    for hidden in embeddings:
        for layer, tokens in zip(model.model.layers, seen, strict=True):
            normed = layer.input_layernorm(hidden)
            own = layer.self_attn
            query = own.q_proj(normed).view(n_heads, d)
            tokens.append((own.k_proj(normed).view(n_kv_heads, d), own.v_proj(normed).view(n_kv_heads, d)))
            heads = []
            for h in range(n_heads):
                kv = h * n_kv_heads // n_heads
                asked = turned(query[h], len(tokens) - 1, theta)
                dots = [float(asked @ turned(key[kv], i, theta)) / math.sqrt(d) for i, (key, _) in enumerate(tokens)]
                weights = torch.tensor(dots).softmax(0)
                heads.append(sum(w * value[kv] for w, (_, value) in zip(weights, tokens, strict=True)))
            hidden = hidden + own.o_proj(torch.cat(heads))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        logits.append(model.lm_head(model.model.norm(hidden)))
    new = [tokens[len(before) :] for tokens, before in zip(seen, kept, strict=True)]
    return torch.stack(logits), new


def as_payload(tokens: PlainKept) -> Tensor:
    """(L, 2, K, N, D), as the decoder gives it."""
    return torch.stack(
        [torch.stack([torch.stack(part, dim=1) for part in zip(*layer, strict=True)]) for layer in tokens]
    )


def joined(parts: Sequence[PlainKept]) -> PlainKept:
    return [list(chain.from_iterable(layers)) for layers in zip(*parts, strict=True)]


def encode(decoder: StreamDecoder, sinks: Tensor, window: Sequence[Tensor], chunk: Tensor) -> tuple[Tensor, Tensor]:
    context = decoder.context_of([Kept(payload) for payload in (sinks, *window)], len(chunk))
    return decoder.prefill(chunk, context)


@pytest.mark.parametrize("family", ["llama", "qwen2", "pocket"])
@torch.inference_mode()
def test_window_eviction_and_retrieval_equal_attention_written_out(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str
) -> None:
    model = make_model(family, n_heads=2, n_kv_heads=1, head_dim=6)
    decoder = decoder_of(model)
    generator = torch.Generator().manual_seed(2)
    e = model.config.hidden_size
    nothing: PlainKept = [[] for _ in model.model.layers]
    opening = torch.randn(SINKS, e, generator=generator)
    frames = [torch.randn(n, e, generator=generator) for n in (4, 3, 5, 4, 2, 4, 3, 3)]
    context = decoder.new_context(SINKS)
    _, sinks = decoder.prefill(opening, context)
    _, plain_sinks = plain_pass(model, opening, nothing)
    blocks: list[Tensor] = []
    plain_blocks: list[PlainKept] = []
    for i in range(0, len(frames), 2):  # a chunk is two frames; the window is the two blocks before it
        chunk, lengths = torch.cat(frames[i : i + 2]), [len(frames[i]), len(frames[i + 1])]
        hidden, payload = encode(decoder, sinks, blocks[-WINDOW:], chunk)
        expected, new = plain_pass(model, chunk, joined([plain_sinks, *plain_blocks[-WINDOW:]]))
        torch.testing.assert_close(decoder.logits(hidden), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(payload, as_payload(new), rtol=0, atol=1e-4)
        blocks += torch.split(payload, lengths, dim=-2)
        first = [layer[: lengths[0]] for layer in new]
        plain_blocks += [first, [layer[lengths[0] :] for layer in new]]

    retrieved, window = [0, 3], [6, 7]
    dialogue, question = (torch.randn(n, e, generator=generator) for n in (4, 5))
    wanted = [sinks, *(blocks[i] for i in retrieved + window)]
    plain_wanted = [plain_sinks, *(plain_blocks[i] for i in retrieved + window)]
    answer_context = decoder.new_context(40)
    for part in wanted:
        answer_context.append(part)
    decoder.prefill(dialogue, answer_context)
    hidden, _ = decoder.prefill(question, answer_context)
    expected, _ = plain_pass(model, torch.cat([dialogue, question]), joined(plain_wanted))
    torch.testing.assert_close(decoder.logits(hidden), expected[len(dialogue) :], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_payloads_are_raw_to_the_bit(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder]
) -> None:
    model = make_model(n_kv_heads=2, head_dim=8)
    decoder = decoder_of(model)
    embeddings = torch.randn(7, 24, generator=torch.Generator().manual_seed(0))
    context = decoder.new_context(20)
    decoder.prefill(embeddings, context)
    _, payload = decoder.prefill(embeddings, context)
    layer = model.model.layers[0]
    normed = layer.input_layernorm(embeddings[None])[0]
    assert torch.equal(payload[0, 0], layer.self_attn.k_proj(normed).view(7, 2, 8).transpose(0, 1))
    assert torch.equal(payload[0, 1], layer.self_attn.v_proj(normed).view(7, 2, 8).transpose(0, 1))


@pytest.mark.parametrize("family", ["llama", "qwen2", "pocket"])
@torch.inference_mode()
def test_identical_frames_in_identical_contexts_are_bit_identical_whatever_the_time(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str
) -> None:
    model = make_model(family, n_layers=2)
    decoder, e = decoder_of(model), model.config.hidden_size
    generator = torch.Generator().manual_seed(3)
    scenes = [torch.randn(5, e, generator=generator) for _ in range(3)]
    context = decoder.new_context(SINKS)
    _, sinks = decoder.prefill(torch.randn(SINKS, e, generator=generator), context)
    blocks: list[Tensor] = []
    for i in range(40):
        blocks.append(encode(decoder, sinks, blocks[-WINDOW:], scenes[i % 3])[1])
    # What a block holds depends on no more than layers x window frames before it.
    settled = model.config.num_hidden_layers * WINDOW
    for i in range(settled, 37):
        assert torch.equal(blocks[i], blocks[i + 3])
    assert not torch.equal(blocks[39], blocks[38])
