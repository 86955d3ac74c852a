"""A KV block: the raw keys and values of one kept frame, and the entry that describes it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamvlm.frame import Fidelity

PAGE_BYTES = 4096
"""Every tier gives its bytes out in whole pages, as direct disk reads want."""


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
        """Returns the shape of a block's payload: (layers, 2 for key and value, KV heads, tokens, head dim)."""
        return (self.n_layers, 2, self.n_kv_heads, n_tokens, self.head_dim)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a block's tokens stand, counted from the block's beginning, for models whose positions have several axes.

    Attributes:
        data: Of the axes time, height and width in turn, each token's int16 coordinate.
        extent: How far behind the block's beginning the next one begins.
    """

    data: bytes
    extent: int

    @classmethod
    def of(cls, axes: Tensor, extent: int) -> Positions:
        """Makes them from coordinates (3, N)."""
        return cls(axes.cpu().numpy().astype("<i2").tobytes(), extent)

    @classmethod
    def of_text(cls, n_tokens: int) -> Positions:
        """Makes positions one behind the other on all axes."""
        return cls.of(torch.arange(n_tokens).expand(3, -1), n_tokens)

    @classmethod
    def join(cls, parts: Sequence[Positions]) -> Positions:
        """Joins those of several blocks, one behind the other."""
        begins = itertools.accumulate((part.extent for part in parts), initial=0)
        axes = [begin + part.axes for begin, part in zip(begins, parts, strict=False)]
        return cls.of(torch.cat(axes, dim=1), sum(part.extent for part in parts))

    @property
    def axes(self) -> Tensor:
        """Coordinates (3, N) int64."""
        return torch.from_numpy(np.frombuffer(self.data, "<i2").astype(np.int64).reshape(3, -1))

    def keep(self, tokens: Tensor) -> Positions:
        """Returns those of some tokens only, given by index; what follows the block begins where it did."""
        return Positions.of(self.axes[:, tokens.cpu()], self.extent)


@dataclass(frozen=True, slots=True)
class KVBlock:
    """A block's entry in the block table; its payload lives in a tier.

    Attributes:
        id: Sequence number, rising with stream time, never reused.
        start_s: Stream time of the block's frame.
        end_s: Stream time of the last frame the block stands for: itself, or the last one that the gate
            discarded after it because nothing had changed.
        fidelity: ``clear`` or ``fuzzy``.
        score: The gate's curvature score of the frame.
        n_tokens: Timestamp text tokens plus visual tokens.
        positions: Where they stand; None: one behind the other.
    """

    id: int
    start_s: float
    end_s: float
    fidelity: Fidelity
    score: float
    n_tokens: int
    positions: Positions | None = None


def whole_pages(n_bytes: int) -> int:
    """Returns ``n_bytes`` rounded up to whole pages."""
    return -(-n_bytes // PAGE_BYTES) * PAGE_BYTES
