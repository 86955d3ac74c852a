"""What only the Qwen VL families have: grids of any shape, positions of three axes, time as the processor writes it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fabricate import FAMILIES, QUESTION, fabricate
from hypothesis import example, given
from hypothesis import strategies as st
from pairs import Pair, pictures
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from streamvlm.decoding.context import KeyValues
from streamvlm.errors import ModelError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import Positions
from streamvlm.models.base import FrameTokens
from streamvlm.models.families.qwen3_vl import Qwen3Vl
from streamvlm.models.families.qwen_vl import Sizes, grid_positions
from streamvlm.models.registry import load_model

QWEN = ("qwen2_5_vl", "qwen3_vl")
TIMES_S = [0.0, 0.25, 61.5, 3725.04]
only_qwen = pytest.mark.parametrize("pair", QWEN, indirect=True)


@only_qwen
def test_positions_put_together_from_frames_are_the_stock_models_own(pair: Pair) -> None:
    inputs = pair.stock_inputs(pictures(4), TIMES_S, [QUESTION])
    grids = {name: inputs[name] for name in inputs if name.endswith("grid_thw")}
    types = inputs["mm_token_type_ids"]
    expected, _ = pair.stock.model.get_rope_index(inputs["input_ids"], mm_token_type_ids=types, **grids)
    opening, asked = FrameTokens(pair.ours.opening_tokens()), FrameTokens(pair.ours.question_tokens(QUESTION))
    whole = FrameTokens.join([opening, *pair.frames(pictures(4), TIMES_S), asked])
    assert whole.positions is not None
    assert torch.equal(whole.positions.axes, expected[:, 0].cpu())


@only_qwen
@torch.inference_mode()
def test_a_retrieved_frame_is_read_where_it_stands_now_on_all_axes(pair: Pair) -> None:
    """Two frames kept, the later one retrieved alone: as if it had been the only one."""
    (first, second), times_s = pictures(2), [3.0, 8.0]
    opening, asked = pair.ours.opening_tokens(), pair.ours.question_tokens(QUESTION)
    decoder = pair.decoder
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    blocks = []
    for frame in pair.frames([first, second], times_s):
        behind_sinks = decoder.context_of([KeyValues(sinks)], len(frame))
        _, payload = decoder.prefill(
            frame.embeddings, behind_sinks, positions=frame.positions, deepstack=frame.deepstack
        )
        blocks.append(KeyValues(payload, positions=frame.positions))
    expected = pair.stock(**pair.stock_inputs([second], [times_s[1]], [QUESTION])).logits[0, -len(asked) :]

    def answered(*kept: KeyValues) -> torch.Tensor:
        return decoder.logits(decoder.prefill(asked, decoder.context_of([KeyValues(sinks), *kept], len(asked)))[0])

    torch.testing.assert_close(answered(blocks[1]), expected, rtol=0, atol=1e-4)
    positions = blocks[1].positions
    assert positions is not None
    for axis in range(3):  # an axis that stays behind where the frame was first seen is another picture
        stayed = positions.axes
        stayed[axis] += 20
        wrong = Positions.of(stayed, positions.extent)
        assert (answered(KeyValues(blocks[1].payload, positions=wrong)) - expected).abs().max() > 1e-2


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([28, 32]), st.integers(1, 10**6), st.integers(0, 10**7)
)
@example(6, 9, 28, 3136, 12845056)
def test_every_picture_gets_the_familys_own_size_within_the_budget(
    height: int, width: int, token: int, least: int, span: int
) -> None:
    settings = {"patch_size": token // 2, "merge_size": 2, "min_pixels": least, "max_pixels": least + span}
    sizes = Sizes.of(settings)
    assert sizes.most == min(least + span, 256 * token**2)
    rows, columns = sizes.grid(height, width)
    if max(height, width) <= 200 * min(height, width):  # the family refuses others
        assert (rows * token, columns * token) == smart_resize(height, width, token, sizes.least, sizes.most)


@given(st.integers(1, 5000), st.integers(1, 5000))
@example(1, 5000)
def test_any_frame_has_tokens_and_no_more_than_the_budget(height: int, width: int) -> None:
    for family in QWEN:
        rows, columns = Sizes.of(dict(FAMILIES[family].preprocessing)).grid(height, width)
        assert 1 <= rows * columns <= 256


@only_qwen
def test_shapes_seen_together_are_seen_as_alone_and_in_order(pair: Pair) -> None:
    given = [*pictures(6), np.full((2, 900, 3), 77, np.uint8)]
    for sight, picture in zip(pair.ours.see(given), given, strict=True):
        (alone,) = pair.ours.see([picture])
        torch.testing.assert_close(sight.detail, alone.detail, rtol=0, atol=1e-5)
        torch.testing.assert_close(sight.feature, alone.feature, rtol=0, atol=1e-5)


@only_qwen
def test_a_fuzzy_frame_is_pooled_on_all_levels_and_stands_as_a_smaller_picture_would(pair: Pair) -> None:
    (sight,) = pair.ours.see([np.random.default_rng(1).integers(0, 256, (448, 336, 3), np.uint8)])
    n_levels, rows, columns, _ = sight.detail.shape
    clear, fuzzy = (pair.ours.frame_tokens(sight, 7.0, fidelity) for fidelity in (Fidelity.CLEAR, Fidelity.FUZZY))
    n_before = len(fuzzy) - (rows // 2) * (columns // 2) - 1
    half = sight.detail.unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1)).flatten(1, 2)
    visual = slice(n_before, n_before + half.shape[1])
    torch.testing.assert_close(fuzzy.embeddings[visual], half[0], rtol=0, atol=1e-5)
    assert fuzzy.positions is not None
    assert torch.equal(fuzzy.positions.axes[:, visual], n_before + grid_positions(rows // 2, columns // 2).axes)
    for tokens, size in ((clear, max(rows, columns)), (fuzzy, max(rows, columns) // 2)):
        assert tokens.positions is not None
        assert tokens.positions.extent == n_before + size + 1
    if pair.family == "qwen3_vl":
        assert fuzzy.deepstack is not None
        assert len(fuzzy.deepstack) == n_levels - 1 == 2
        torch.testing.assert_close(fuzzy.deepstack[:, visual], half[1:], rtol=0, atol=1e-5)
        assert not fuzzy.deepstack[:, :n_before].any()
        assert not fuzzy.deepstack[:, visual.stop :].any()
    else:
        assert fuzzy.deepstack is None


@given(st.integers(0, 10**7).map(lambda tick: tick / 90))
def test_time_is_written_as_the_processor_of_qwen3_vl_writes_it(time_s: float) -> None:
    marks = {"vision_start_token": "<|vision_start|>", "video_token": "*", "vision_end_token": "<|vision_end|>"}
    processor: Any = SimpleNamespace(video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2), **marks)
    processor._calculate_timestamps = partial(Qwen3VLProcessor._calculate_timestamps, processor)
    video = SimpleNamespace(frames_indices=[time_s], fps=1.0)  # a frame paired with itself
    inputs = {"video_grid_thw": torch.tensor([[1, 4, 2]]), "video_metadata": [video]}
    written = Qwen3VLProcessor.replace_video_token(processor, inputs, 0)
    ours = Qwen3Vl._wrapping(processor, time_s)
    assert f"{ours.before}**{ours.after}" == written


@pytest.mark.parametrize("family", QWEN)
@pytest.mark.parametrize("missing", ["patch_size", "merge_size", "sizes"])
def test_a_checkpoint_without_its_sizes_is_refused_when_it_is_loaded(
    family: str, missing: str, tmp_path: Path, device: str
) -> None:
    folder = fabricate(family, tmp_path)
    own = json.loads((folder / "preprocessor_config.json").read_text())
    for name in ("size", "min_pixels", "max_pixels") if missing == "sizes" else (missing,):
        own.pop(name, None)
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    with pytest.raises(ModelError, match=r"preprocessing numbers .* are not those of the family"):
        load_model(str(folder), device=device)
