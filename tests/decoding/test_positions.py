"""Positions of several axes: contiguous re-basing equals the unmodified model at the positions written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen2_5_VLTextConfig, Qwen3VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.memory.block import Positions

E = 24


def text_model(family: str, device: str) -> Any:
    kind: Any = {"qwen2_5_vl": Qwen2_5_VLTextConfig, "qwen3_vl": Qwen3VLTextConfig}[family]
    config = kind(
        vocab_size=31,
        hidden_size=E,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
    )
    if family == "qwen2_5_vl":
        config.hidden_size = 64  # this family's heads are always hidden size / heads wide
    torch.manual_seed(0)
    model: Any = (Qwen2_5_VLTextModel if family == "qwen2_5_vl" else Qwen3VLTextModel)(config)
    return model.to(device).eval()


def frame_positions(n_before: int, height: int, width: int, n_after: int) -> Positions:
    """Text, a grid of visual tokens, text, as Qwen2-VL counts them (arXiv:2409.12191, section 2.1)."""
    before = torch.arange(n_before).expand(3, -1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = n_before + torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1)
    after = n_before + max(height, width) + torch.arange(n_after).expand(3, -1)
    return Positions.of(torch.cat([before, grid, after], dim=1), n_before + max(height, width) + n_after)


FRAMES = [frame_positions(3, 2, 3, 1), frame_positions(3, 4, 2, 1), frame_positions(3, 1, 1, 1)]


def stock(model: Any, embeddings: Tensor, axes: Tensor, deepstack: Tensor | None) -> Tensor:
    more: dict[str, Any] = {}
    if deepstack is not None:
        mask = (deepstack != 0).any(-1).any(0)
        more = {"visual_pos_masks": mask[None], "deepstack_visual_embeds": [level[mask] for level in deepstack]}
    model.set_attn_implementation("eager")
    places = axes[:, None].to(embeddings.device)
    hidden: Tensor = model(inputs_embeds=embeddings[None], position_ids=places, use_cache=False, **more)[0]
    return hidden[0]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@torch.inference_mode()
def test_frames_behind_each_other_equal_the_unmodified_model(family: str, device: str) -> None:
    model, generator = text_model(family, device), torch.Generator().manual_seed(1)
    e = model.config.hidden_size
    opening, question = (torch.randn(n, e, generator=generator).to(device) for n in (5, 4))
    frames = [torch.randn(p.axes.shape[1], e, generator=generator).to(device) for p in FRAMES]
    deepstack = [
        torch.randn(2, len(f), e, generator=generator).to(device) if family == "qwen3_vl" else None for f in frames
    ]
    for d in deepstack:
        if d is not None:
            d[:, :3] = 0  # the text before the picture
    text = [Positions.of(torch.arange(len(part)).expand(3, -1), len(part)) for part in (opening, question)]
    axes = Positions.join([text[0], *FRAMES, text[1]]).axes
    whole = torch.cat([opening, *frames, question])
    of_text, features = [opening.new_zeros(2, n, e) for n in (5, 4)], None
    if family == "qwen3_vl":
        features = torch.cat([of_text[0], *(d for d in deepstack if d is not None), of_text[1]], 1)
    expected = stock(model, whole, axes, features)

    decoder = StreamDecoder(model, torch.nn.Identity())
    context = decoder.new_context(len(whole))
    decoder.prefill(opening, context)
    hidden = []
    for embeddings, positions, own in zip(frames, FRAMES, deepstack, strict=True):
        hidden.append(decoder.prefill(embeddings, context, positions=positions, deepstack=own)[0])
    hidden.append(decoder.prefill(question, context)[0])
    torch.testing.assert_close(torch.cat(hidden), expected[5:], rtol=0, atol=1e-4)

    # The same with raw payloads, one retrieved out of three: as if the others had never been.
    _, sinks = decoder.prefill(opening, decoder.new_context(5))
    alone = decoder.context_of([KeyValues(sinks)], len(frames[1]))
    _, payload = decoder.prefill(frames[1], alone, positions=FRAMES[1], deepstack=deepstack[1])
    again = decoder.context_of([KeyValues(sinks), KeyValues(payload, 7, FRAMES[1])], len(question))
    got = decoder.prefill(question, again)[0]
    axes = Positions.join([text[0], FRAMES[1], text[1]]).axes
    features = None if deepstack[1] is None else torch.cat([of_text[0], deepstack[1], of_text[1]], 1)
    expected = stock(model, torch.cat([opening, frames[1], question]), axes, features)
    torch.testing.assert_close(got, expected[-4:], rtol=0, atol=1e-4)
    # Height and width matter: the same tokens in one long row are another picture.
    decoder = StreamDecoder(model, torch.nn.Identity())
    row = decoder.context_of([KeyValues(sinks), KeyValues(payload, 7)], len(question))
    assert not torch.allclose(decoder.prefill(question, row)[0], expected[-4:], atol=1e-2)


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 4).filter(lambda t: t[0] + t[3] > 0), min_size=1, max_size=4))
def test_joined_positions_run_on_and_kept_ones_stay_where_they_are(shapes: list[tuple[int, int, int, int]]) -> None:
    parts = [frame_positions(*shape) for shape in shapes]
    joined = Positions.join(parts)
    assert joined.extent == sum(part.extent for part in parts)
    begin = column = 0
    for part in parts:
        own = joined.axes[:, column : column + part.axes.shape[1]]
        assert torch.equal(own, begin + part.axes)
        begin, column = begin + part.extent, column + part.axes.shape[1]
    kept = torch.arange(0, joined.axes.shape[1], 2)
    assert torch.equal(joined.keep(kept).axes, joined.axes[:, kept])
    assert joined.keep(kept).extent == joined.extent
