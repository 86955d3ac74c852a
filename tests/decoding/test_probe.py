from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder


@pytest.fixture
def embeddings(device: str) -> Tensor:
    return torch.randn(25, 24, generator=torch.Generator().manual_seed(6)).to(device)


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model(n_layers=4)


@torch.inference_mode()
def test_a_probe_gives_the_raw_queries_of_a_full_pass(
    model: Any, decoder_of: Callable[[Any], StreamDecoder], embeddings: Tensor
) -> None:
    decoder = decoder_of(model)
    context = decoder.new_context(25)
    decoder.prefill(embeddings[:18], context)
    queries = decoder.probe(embeddings[18:], context, [2, 0])

    seen: dict[int, Tensor] = {}
    for i, layer in enumerate(decoder._text_model.layers):
        layer.self_attn.q_proj.register_forward_hook(
            lambda _module, _args, out, i=i: seen.update({i: out[0].view(7, 4, 8).transpose(0, 1)})
        )
    decoder.prefill(embeddings[18:], context)
    assert set(queries) == {0, 2}
    for layer_index, query in queries.items():
        assert torch.equal(query, seen[layer_index])


@torch.inference_mode()
def test_a_probe_leaves_the_context_as_it_was(
    model: Any, decoder_of: Callable[[Any], StreamDecoder], device: str, embeddings: Tensor
) -> None:
    decoder = decoder_of(model)
    outputs = []
    for with_probe in (False, True):
        context = decoder.new_context(32)
        _, payload = decoder.prefill(embeddings[:10], decoder.new_context(10))
        context.append(KeyValues(payload, 5))
        decoder.prefill(embeddings[10:18], context)
        if with_probe:
            decoder.probe(torch.ones(14, 24, device=device), context, [3])
        assert (context.n_tokens, len(context.spans)) == (18, 1)
        outputs.append(decoder.prefill(embeddings[18:], context))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_layers_above_the_deepest_one_wanted_never_run(
    model: Any, decoder_of: Callable[[Any], StreamDecoder], embeddings: Tensor
) -> None:
    decoder = decoder_of(model)
    ran: list[int] = []
    for i, layer in enumerate(decoder._text_model.layers):
        layer.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
    decoder.probe(embeddings, decoder.new_context(25), [1, 2])
    assert ran == [0, 1]
