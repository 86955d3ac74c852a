"""Oracles 2 and 4: past the window, attention is over exactly the kept tokens at their new positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from plain import WINDOW, assert_equals_attention_written_out, blocks_of_a_loop
from torch import Tensor

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.models.base import FrameTokens

SINKS = 3


def encode(decoder: StreamDecoder, sinks: Tensor, window: Sequence[Tensor], chunk: Tensor) -> tuple[Tensor, Tensor]:
    context = decoder.context_of([KeyValues(payload) for payload in (sinks, *window)], len(chunk))
    return decoder.prefill(chunk, context)


@pytest.mark.parametrize("family", ["llama", "qwen2", "pocket"])
@torch.inference_mode()
def test_window_eviction_and_retrieval_equal_attention_written_out(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str, device: str
) -> None:
    model = make_model(family, n_heads=2, n_kv_heads=1, head_dim=6)
    decoder = decoder_of(model)
    generator = torch.Generator().manual_seed(2)
    e = model.config.hidden_size
    opening = torch.randn(SINKS, e, generator=generator).to(device)
    frames = [FrameTokens(torch.randn(n, e, generator=generator).to(device)) for n in (4, 3, 5, 4, 2, 4, 3, 3)]
    said = [torch.randn(n, e, generator=generator).to(device) for n in (4, 5)]
    assert_equals_attention_written_out(decoder, model.model, opening, frames, said)


@torch.inference_mode()
def test_payloads_are_raw_to_the_bit(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], device: str
) -> None:
    model = make_model(n_kv_heads=2, head_dim=8)
    decoder = decoder_of(model)
    embeddings = torch.randn(7, 24, generator=torch.Generator().manual_seed(0)).to(device)
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
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], family: str, device: str
) -> None:
    model = make_model(family, n_layers=2)
    decoder, e = decoder_of(model), model.config.hidden_size
    generator = torch.Generator().manual_seed(3)
    scenes = [FrameTokens(torch.randn(5, e, generator=generator).to(device)) for _ in range(3)]
    opening = torch.randn(SINKS, e, generator=generator).to(device)
    blocks = [block.payload for block in blocks_of_a_loop(decoder, opening, scenes, 40)]
    # What a block holds depends on no more than layers x window frames before it.
    settled = model.config.num_hidden_layers * WINDOW
    for i in range(settled, 37):
        assert torch.equal(blocks[i], blocks[i + 3])
    assert not torch.equal(blocks[39], blocks[38])
