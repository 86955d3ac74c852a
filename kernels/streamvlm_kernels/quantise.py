"""Asymmetric min/max quantisation: a group of values becomes codes between its lowest and its highest value.

KIVI (arXiv 2402.02750, section 3): ``code = round((x - low) / step)`` with ``step = (high - low) / (2**bits - 1)``,
so that a value read back differs from the original by at most half a step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Quantised(NamedTuple):
    """Codes and, for each group, its lowest value and its step.

    Attributes:
        codes: uint8, one code a value whatever the bits.
        low: float32, the group's lowest value, the grouped dimension kept with size 1.
        step: float32, like ``low``; never zero.
    """

    codes: Tensor
    low: Tensor
    step: Tensor


def quantise(values: Tensor, bits: int, dim: int) -> Quantised:
    """Quantises finite ``values`` of any float dtype to ``bits`` (at most 8), one group along ``dim``."""
    values = values.float()
    low, high = values.aminmax(dim=dim, keepdim=True)
    step = (high - low) / (2**bits - 1)
    # A group without range needs no step, and must not divide by zero; nor by what rounds to infinity.
    step = torch.where(step > torch.finfo(torch.float32).tiny, step, torch.ones_like(step))
    codes = ((values - low) / step).round_().clamp_(0, 2**bits - 1)
    return Quantised(codes.to(torch.uint8), low, step)


def dequantise(quantised: Quantised, dtype: torch.dtype) -> Tensor:
    """Returns the values, each off by at most half its group's step besides rounding."""
    codes, low, step = quantised
    return torch.addcmul(low, codes.float(), step).to(dtype)


def pack_nibbles(codes: Tensor) -> Tensor:
    """Packs 4-bit codes, flattened, two a byte: (ceil(n / 2),) uint8, the earlier code in the low half."""
    flat = codes.flatten()
    if len(flat) % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    return flat[0::2] | flat[1::2] << 4


def unpack_nibbles(packed: Tensor, n_codes: int) -> Tensor:
    """Returns the first ``n_codes`` codes that ``pack_nibbles`` packed, (n_codes,) uint8."""
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:n_codes]


def quantise_reference(values: list[float], bits: int) -> tuple[list[int], float, float]:
    """Quantises one group as the formula is written: returns its codes, ``low`` and ``step``."""
    low, high = min(values), max(values)
    step = (high - low) / (2**bits - 1) or 1.0
    return [round((x - low) / step) for x in values], low, step
