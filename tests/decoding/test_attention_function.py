from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.errors import ModelError


@pytest.fixture
def embeddings(device: str) -> Tensor:
    return torch.randn(24, 24, generator=torch.Generator().manual_seed(7)).to(device)


def outputs(decoder: StreamDecoder, embeddings: Tensor) -> list[Tensor]:
    context = decoder.new_context(24)
    return [decoder.prefill(part, context)[0] for part in torch.split(embeddings, 6)]


def test_interleaved_models_and_streams_do_not_disturb_each_other(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], embeddings: Tensor
) -> None:
    llama, qwen = decoder_of(make_model("llama")), decoder_of(make_model("qwen2", n_layers=3, seed=1))
    alone = {decoder: outputs(decoder, embeddings) for decoder in (llama, qwen)}
    streams = [(decoder, decoder.new_context(24)) for decoder in (llama, qwen, llama)]
    for i, part in enumerate(torch.split(embeddings, 6)):
        for decoder, context in streams:
            decoder.probe(embeddings[: 24 - 6 * i], context, [1])
            assert torch.equal(decoder.prefill(part, context)[0], alone[decoder][i])


def test_a_model_that_is_not_adopted_attends_as_ever(make_model: Callable[..., Any], embeddings: Tensor) -> None:
    plain, adopted = make_model(), make_model()
    with torch.inference_mode():
        before = plain(inputs_embeds=embeddings[None]).logits
        outputs(StreamDecoder(adopted.model, adopted.lm_head), embeddings)
        assert torch.equal(plain(inputs_embeds=embeddings[None]).logits, before)
    assert plain.config._attn_implementation == "sdpa"


def test_an_adopted_model_cannot_be_called_without_a_stream(make_model: Callable[..., Any], embeddings: Tensor) -> None:
    model = make_model()
    StreamDecoder(model.model, model.lm_head)
    with pytest.raises(TypeError, match="stream"):
        model(inputs_embeds=embeddings[None])


def test_layers_with_their_own_sliding_window_are_refused(
    make_model: Callable[..., Any], decoder_of: Callable[[Any], StreamDecoder], embeddings: Tensor
) -> None:
    decoder = decoder_of(make_model("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1))
    with pytest.raises(ModelError, match="sliding window"):
        decoder.prefill(embeddings, decoder.new_context(24))
