"""What a KV block is: the raw keys and values of one kept frame, and the line that describes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from streamvlm.frame import Fidelity


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Shape of one token's keys and values in a model, so that a block's bytes are known beforehand."""

    n_layers: int
    n_kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values that one token takes over all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * self.dtype.itemsize

    def shape(self, n_tokens: int) -> tuple[int, int, int, int, int]:
        """Shape of a block's payload: (layers, 2 for key and value, KV heads, tokens, head dim)."""
        return (self.n_layers, 2, self.n_kv_heads, n_tokens, self.head_dim)


@dataclass(frozen=True, slots=True)
class KVBlock:
    """The line that describes one block; its payload lives in a tier.

    Attributes:
        id: Sequence number, rising with stream time, never reused.
        start_s: Stream time of the block's frame.
        end_s: Stream time of the last frame the block stands for: itself, or the last one that the gate
            discarded after it because nothing had changed.
        fidelity: ``clear`` or ``fuzzy``.
        score: The gate's curvature score of the frame.
        n_tokens: Timestamp text tokens plus visual tokens.
    """

    id: int
    start_s: float
    end_s: float
    fidelity: Fidelity
    score: float
    n_tokens: int
