from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from streamvlm.decoding.context import KeyValues, TokenSpan
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.decoding.rotary import Rotary, rotate
from streamvlm.errors import ModelError

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 16,
}


@pytest.fixture
def decoder(make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder]) -> StreamDecoder:
    return decoder_of(make_model())


def test_spans_name_the_blocks(decoder: StreamDecoder, device: str) -> None:
    context = decoder.new_context(12)
    for n_tokens, block_id in ((3, None), (4, 17), (2, 90)):
        context.append(KeyValues(torch.randn(decoder.layout.shape(n_tokens), device=device), block_id))
    assert context.spans == [TokenSpan(0, 3, None), TokenSpan(3, 7, 17), TokenSpan(7, 9, 90)]


def test_what_does_not_fit_is_refused_and_changes_nothing(decoder: StreamDecoder, device: str) -> None:
    context = decoder.new_context(5)
    context.append(KeyValues(torch.randn(decoder.layout.shape(4), device=device)))
    with pytest.raises(ValueError, match="5 tokens cannot hold 6"):
        context.append(KeyValues(torch.randn(decoder.layout.shape(2), device=device)))
    with pytest.raises(ValueError, match="5 tokens cannot hold 7"):
        decoder.prefill(torch.randn(3, 24, device=device), context)
    assert (context.n_tokens, len(context.spans)) == (4, 1)


@pytest.mark.parametrize("rope", [DYNAMIC, LONGROPE], ids=["dynamic", "longrope"])
def test_frequencies_that_depend_on_the_length_are_refused(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], rope: dict[str, Any]
) -> None:
    model = make_model(rope_parameters=rope, max_position_embeddings=64)
    with pytest.raises(ModelError, match=f"{rope['rope_type']!r} cannot stream"):
        decoder_of(model)


def test_bfloat16_keys_are_rounded_once(make_model: Callable[..., Any], device: str) -> None:
    model = make_model(head_dim=16, dtype=torch.bfloat16)
    positions = torch.arange(0, 4096, 7)
    raw = torch.randn(len(positions), 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    got = rotate(raw.to(device), Rotary(model.model).turns(positions.to(device))).cpu()
    frequencies = 10000.0 ** (-torch.arange(8, dtype=torch.float64) / 8)
    pairs = torch.complex(raw[:, :8].double(), raw[:, 8:].double())
    exact = pairs * torch.polar(torch.ones(1, dtype=torch.float64), positions[:, None] * frequencies)
    expected = torch.cat([exact.real, exact.imag], dim=-1)
    # bfloat16 has 8 significant bits: one rounding is off by at most 2^-8 of the value; fp32 angles add little.
    bound = 2.0**-8 * expected.abs() + 4e-4 * exact.abs().repeat(1, 2)
    assert got.dtype == torch.bfloat16
    assert bool(((got.double() - expected).abs() <= bound).all())


def test_a_bfloat16_model_streams(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], device: str
) -> None:
    exact, rounded = make_model(), make_model(dtype=torch.bfloat16)
    rounded.load_state_dict(exact.state_dict())
    embeddings = torch.randn(30, 24, generator=torch.Generator().manual_seed(5)).to(device)
    hidden = []
    for model, dtype in ((exact, torch.float32), (rounded, torch.bfloat16)):
        decoder = decoder_of(model)
        context = decoder.new_context(30)
        decoder.prefill(embeddings[:20].to(dtype), context)
        hidden.append(decoder.prefill(embeddings[20:].to(dtype), context)[0].float())
    assert float((hidden[0] - hidden[1]).norm() / hidden[0].norm()) < 0.1
