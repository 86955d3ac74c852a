"""Codecs: raw is exact to the bit, the others are off by half a step of their group."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.memory.block import BlockLayout
from streamvlm.memory.disk.codec import Codec, decode, encode, encoded_bytes


@given(
    n_layers=st.integers(1, 3),
    n_heads=st.integers(1, 3),
    n_tokens=st.integers(1, 9),
    head_dim=st.integers(1, 9),
    codec=st.sampled_from(list(Codec)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_every_codec_fills_its_bytes_and_keeps_its_bound(
    n_layers: int, n_heads: int, n_tokens: int, head_dim: int, codec: Codec, dtype: torch.dtype
) -> None:
    layout = BlockLayout(n_layers, n_heads, head_dim, dtype)
    payload = torch.randn(layout.shape(n_tokens), generator=torch.Generator().manual_seed(n_tokens)).to(dtype)
    data, back = encode(codec, payload), torch.empty_like(payload)
    assert len(data) == encoded_bytes(codec, layout, n_tokens)
    decode(codec, data, back)
    if codec is Codec.RAW:
        assert torch.equal(back, payload)
        return
    levels = 255 if codec is Codec.INT8 else 15
    for half, dim in ((0, -2), (1, -1)):  # keys a channel, values a token
        exact = payload[:, half].float()
        low, high = exact.aminmax(dim=dim, keepdim=True)
        bound = (high - low) / levels / 2 + exact.abs().max() * torch.finfo(dtype).eps * 2
        assert ((back[:, half].float() - exact).abs() <= bound).all()


@pytest.mark.parametrize(("codec", "at_most"), [(Codec.INT8, 0.3), (Codec.INT4, 0.17)])
def test_long_blocks_shrink_by_the_bits(codec: Codec, at_most: float) -> None:
    layout = BlockLayout(2, 2, 64, torch.float32)
    assert encoded_bytes(codec, layout, 196) / encoded_bytes(Codec.RAW, layout, 196) < at_most
