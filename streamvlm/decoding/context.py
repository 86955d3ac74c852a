"""What new tokens may attend to: kept keys and values, laid out contiguously in a buffer made once.

A context is put together in the order sinks, retrieved blocks by time, window, dialogue; forward passes then
add to its end. The token at place i has position i, whatever time it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamvlm.decoding.rotary import Rotary, Turns, rotate
from streamvlm.memory.block import BlockLayout


@dataclass(frozen=True, slots=True)
class Span:
    """The places [start, stop) that a payload took, and the block that it is, if it is one."""

    start: int
    stop: int
    block_id: int | None


class Context:
    """Rotated keys, and values, of every layer for up to ``capacity`` tokens, question and answer included.

    Attributes:
        layout: Of the payloads.
        device: Where the buffer is; the model's.
        n_tokens: Tokens in it now; a pass that has written some behind the end raises it to make them part.
        n_bytes: Bytes of the buffer, whatever is in it.
        spans: One for each appended payload, in order; tokens that forward passes add have none.
    """

    def __init__(self, layout: BlockLayout, rotary: Rotary, capacity: int, device: torch.device) -> None:
        self.layout, self.device = layout, device
        self.n_tokens = 0
        self.spans: list[Span] = []
        self._rotary = rotary
        self._buffer = torch.empty(layout.shape(capacity), dtype=layout.dtype, device=device)
        self.n_bytes = self._buffer.nbytes

    @torch.inference_mode()
    def append(self, payload: Tensor, block_id: int | None = None) -> None:
        """Adds the tokens of a raw payload (L, 2, K, N, D) at the end; ValueError if they do not fit."""
        start, n_tokens = self.n_tokens, payload.shape[-2]
        turns = self.turns(n_tokens)
        room = self._buffer[..., start : start + n_tokens, :]
        room[:, 0] = rotate(payload[:, 0], turns)
        room[:, 1] = payload[:, 1]
        self.n_tokens += n_tokens
        self.spans.append(Span(start, self.n_tokens, block_id))

    def truncate(self, n_tokens: int) -> None:
        """Forgets all but the first tokens, and the spans that reach beyond them."""
        self.n_tokens = min(n_tokens, self.n_tokens)
        self.spans = [span for span in self.spans if span.stop <= self.n_tokens]

    def turns(self, n_tokens: int) -> Turns:
        """Gives the rotations of the next tokens; ValueError if so many do not fit."""
        stop = self.n_tokens + n_tokens
        if stop > (capacity := self._buffer.shape[-2]):
            raise ValueError(f"a context of {capacity} tokens cannot hold {stop}")
        return self._rotary.turns(torch.arange(self.n_tokens, stop, device=self.device))

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts a layer's rotated keys and values (K, N, D) behind the end, not yet a part of the context.

        Returns:
            Old and new keys and values together, (K, n_tokens + N, D): views that the next write changes.
        """
        stop = self.n_tokens + keys.shape[-2]
        old_and_new = self._buffer[layer, :, :, :stop]
        old_and_new[0, :, self.n_tokens :] = keys
        old_and_new[1, :, self.n_tokens :] = values
        return old_and_new[0], old_and_new[1]
