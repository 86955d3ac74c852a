"""Fading: a clear block keeps the tokens that stand out, and gives up the others."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock


def fade(block: KVBlock, payload: Tensor, rows: Tensor) -> tuple[KVBlock, Tensor, Tensor]:
    """Makes a clear block fuzzy by dropping the half of its tokens whose keys are nearest to the block's mean key.

    Background repeats itself and lies near the mean; what stands out was worth a look. Tokens are dropped, not
    merged: merged ones lose detail.

    Args:
        block: Its entry.
        payload: (L, 2, K, N, D) keys and values.
        rows: (N, sources, D) index rows.

    Returns:
        Entry, payload and index rows of the fuzzy block, of ceil(N / 2) tokens in their old order.
    """
    keys = payload[:, 0].float()
    distance = (keys - keys.mean(dim=-2, keepdim=True)).square().sum(dim=(0, 1, 3))
    kept = distance.topk(-(-block.n_tokens // 2)).indices.sort().values
    positions = block.positions.keep(kept) if block.positions else None
    fuzzy = replace(block, fidelity=Fidelity.FUZZY, n_tokens=len(kept), positions=positions)
    return fuzzy, payload[..., kept, :].contiguous(), rows[kept].contiguous()
