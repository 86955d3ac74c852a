"""A context: kept keys and values that new tokens attend to, laid out contiguously in a buffer made once.

A context is put together in the order sinks, retrieved blocks by time, window, dialogue; forward passes then
add to its end. Positions run on without a gap, whatever times the tokens come from: a payload whose tokens stand
one behind the other takes a position each; one of several axes keeps its shape and begins where the last one ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from streamvlm.decoding.rotary import Rotary, Turns, rotate
from streamvlm.memory.block import BlockLayout, Positions


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The places [start, stop) that a payload took in a context, and the block that it is, if it is one."""

    start: int
    stop: int
    block_id: int | None


class KeyValues(NamedTuple):
    """One of the things a context is put together from: a raw payload (L, 2, K, N, D), perhaps of a block."""

    payload: Tensor
    block_id: int | None = None
    positions: Positions | None = None


class Context:
    """Rotated keys, and values, of every layer for up to ``capacity`` tokens, question and answer included.

    Attributes:
        layout: Of the payloads.
        device: Where the buffer is; the model's.
        n_tokens: Tokens in it now.
        spans: One for each appended payload, in order; tokens that forward passes add have none.
    """

    def __init__(self, layout: BlockLayout, rotary: Rotary, capacity: int, device: torch.device) -> None:
        self.layout, self.device = layout, device
        self.n_tokens = self._next_position = 0
        self.spans: list[TokenSpan] = []
        self._rotary = rotary
        self._buffer = self.empty_payload(capacity)

    @torch.inference_mode()
    def append(self, *kept: KeyValues) -> None:
        """Adds the tokens of these at the end, one behind the other; ValueError if they do not fit."""
        begin, places = self.n_tokens, []
        for payload, block_id, positions in kept:
            start, n_tokens = self.n_tokens, payload.shape[-2]
            places.append(self._places(n_tokens, positions))
            self._buffer[..., start : start + n_tokens, :] = payload
            self.take_in(n_tokens, positions)
            self.spans.append(TokenSpan(start, self.n_tokens, block_id))
        if places:
            # All of them are turned at once: one by one, each would cost as much.
            keys = self._buffer[:, 0, :, begin : self.n_tokens]  # (L, K, N, D)
            keys.copy_(rotate(keys, self._rotary.turns(_side_by_side(places))))

    def empty_payload(self, n_tokens: int) -> Tensor:
        """Returns memory for a payload (L, 2, K, N, D) of so many tokens, on the context's device."""
        return torch.empty(self.layout.shape(n_tokens), dtype=self.layout.dtype, device=self.device)

    def take_in(self, n_tokens: int, positions: Positions | None = None) -> None:
        """Makes tokens that a pass has written behind the end a part of the context."""
        self.n_tokens += n_tokens
        self._next_position += positions.extent if positions else n_tokens

    def turns(self, n_tokens: int, positions: Positions | None = None) -> Turns:
        """Returns the rotations of the next tokens; ValueError if so many do not fit."""
        return self._rotary.turns(self._places(n_tokens, positions))

    def _places(self, n_tokens: int, positions: Positions | None) -> Tensor:
        """Returns the positions of the next tokens, (N,) or (axes, N); ValueError if so many do not fit."""
        stop = self.n_tokens + n_tokens
        if stop > (capacity := self._buffer.shape[-2]):
            raise ValueError(f"a context of {capacity} tokens cannot hold {stop}")
        own = positions.axes.to(self.device) if positions else torch.arange(n_tokens, device=self.device)
        return self._next_position + own

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts a layer's rotated keys and values (K, N, D) behind the end, not yet a part of the context.

        Returns:
            Old and new keys and values together, (K, n_tokens + N, D): views that the next write changes.
        """
        stop = self.n_tokens + keys.shape[-2]
        old_and_new = self._buffer[layer, :, :, :stop]  # (2, K, n_tokens + N, D)
        old_and_new[0, :, self.n_tokens :] = keys
        old_and_new[1, :, self.n_tokens :] = values
        return old_and_new[0], old_and_new[1]


def _side_by_side(places: Sequence[Tensor]) -> Tensor:
    """Joins positions; if some have several axes, those of one stand at the same place on each."""
    n_axes = max(len(one) if one.dim() == 2 else 0 for one in places)
    return torch.cat([one.expand(n_axes, -1) if n_axes else one for one in places], dim=-1)
