"""Rotary embedding outside of the model: raw vectors turned once, in fp32, to any positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from streamvlm.errors import ModelError

Turns = tuple[Tensor, Tensor]
"""cos and sin, each (N, D) float32."""

_BY_POSITION_ALONE = ("default", "linear", "llama3", "yarn")


class Rotary:
    """A text model's own rotary frequencies, at positions of our choice.

    Raises:
        ModelError: If the frequencies depend on the sequence's length: then no key could be kept.
    """

    def __init__(self, text_model: Any) -> None:
        self._embedding = text_model.rotary_emb
        if (kind := self._embedding.rope_type) not in _BY_POSITION_ALONE:
            raise ModelError(f"Rope type {kind!r} cannot stream, only {', '.join(_BY_POSITION_ALONE)} can.")

    def turns(self, positions: Tensor) -> Turns:
        """Returns the rotations to integer positions: (N,), or (axes, N) for a text model of several axes."""
        like = torch.empty(0, dtype=torch.float32, device=positions.device)
        cos, sin = self._embedding(like, positions[..., None, :])  # (1, N, D), from several axes too
        # Where cos and sin are scaled (yarn), vectors came through the seam scaled: here they only turn.
        scale = self._embedding.attention_scaling
        return cos.squeeze(-3) / scale, sin.squeeze(-3) / scale


def rotate(raw: Tensor, turns: Turns) -> Tensor:
    """Rotates raw vectors (..., N, D), halves against halves, in fp32; rounds once, back to their dtype."""
    cos, sin = turns
    exact = raw.float()
    first, second = exact.chunk(2, dim=-1)  # (..., N, D / 2) each
    return (exact * cos + torch.cat((-second, first), dim=-1) * sin).to(raw.dtype)
