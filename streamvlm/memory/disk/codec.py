"""How a payload is written to disk: raw, or quantised in KIVI's way (keys a channel, values a token)."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from streamvlm.memory.block import BlockLayout
from streamvlm_kernels.quantise import Quantised, dequantise, pack_nibbles, quantise, unpack_nibbles

_KEYS, _VALUES = 0, 1
_TOKENS, _CHANNELS = -2, -1


class Codec(StrEnum):
    """``raw`` gives back every bit; ``int8`` and ``int4`` are off by at most half a step of their group."""

    RAW = "raw"
    INT8 = "int8"
    INT4 = "int4"


_BITS = {Codec.INT8: 8, Codec.INT4: 4}
# A channel keeps its scale over all tokens of a block; a token's values share one (arXiv 2402.02750, section 3).
_GROUPED = {_KEYS: _TOKENS, _VALUES: _CHANNELS}


def encoded_bytes(codec: Codec, layout: BlockLayout, n_tokens: int) -> int:
    """Returns the bytes that a payload of ``n_tokens`` tokens takes once encoded."""
    if codec is Codec.RAW:
        return layout.token_bytes * n_tokens
    heads = layout.n_layers * layout.n_kv_heads
    n_codes = heads * n_tokens * layout.head_dim
    scales = heads * (layout.head_dim + n_tokens) * 2 * torch.float32.itemsize
    return scales + 2 * (n_codes if codec is Codec.INT8 else -(-n_codes // 2))


def encode(codec: Codec, payload: Tensor) -> Tensor:
    """Returns the bytes of a payload (L, 2, K, N, D) on the CPU: uint8, for ``raw`` in place if that is possible."""
    if codec is Codec.RAW:
        return payload.cpu().contiguous().view(torch.uint8).flatten()
    parts = []
    for half, dim in _GROUPED.items():
        codes, low, step = quantise(payload[:, half].cpu(), _BITS[codec], dim)
        packed = codes.flatten() if codec is Codec.INT8 else pack_nibbles(codes)
        parts += [low.flatten().view(torch.uint8), step.flatten().view(torch.uint8), packed]
    return torch.cat(parts)


def decode(codec: Codec, data: Tensor, out: Tensor) -> None:
    """Writes what ``encode`` made of a payload into ``out`` (L, 2, K, N, D), of the payload's shape and dtype."""
    if codec is Codec.RAW:
        out.view(-1).view(torch.uint8).copy_(data)
        return
    at = 0

    def take(n_bytes: int) -> Tensor:
        nonlocal at
        at += n_bytes
        return data[at - n_bytes : at]

    for half, dim in _GROUPED.items():
        shape = list(out[:, half].shape)
        n_codes = out[:, half].numel()
        groups = shape.copy()
        groups[dim] = 1
        n_scale_bytes = n_codes // shape[dim] * torch.float32.itemsize
        low, step = (take(n_scale_bytes).clone().view(torch.float32).view(groups) for _ in range(2))
        codes = take(n_codes) if codec is Codec.INT8 else unpack_nibbles(take(-(-n_codes // 2)), n_codes)
        out[:, half] = dequantise(Quantised(codes.view(shape), low, step), out.dtype)
