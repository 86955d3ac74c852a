"""Quantisation: the vectorised kernel is the formula, and its error has the bound that the formula gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_kernels.quantise import dequantise, pack_nibbles, quantise, quantise_reference, unpack_nibbles


@pytest.mark.parametrize("bits", [4, 8])
def test_the_kernel_is_the_formula_written_out(bits: int) -> None:
    values = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
    codes, low, step = quantise(values, bits, dim=1)
    for row, own_codes, own_low, own_step in zip(values, codes, low, step, strict=True):
        expected, expected_low, expected_step = quantise_reference(row.tolist(), bits)
        assert own_codes.tolist() == expected
        assert float(own_low) == pytest.approx(expected_low)
        assert float(own_step) == pytest.approx(expected_step)


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    bits=st.sampled_from([4, 8]),
)
def test_what_is_read_back_is_off_by_half_a_step_at_most(values: list[float], bits: int) -> None:
    given_values = torch.tensor(values, dtype=torch.float32)
    quantised = quantise(given_values, bits, dim=0)
    rounding = given_values.abs().max() * 1e-6
    assert ((dequantise(quantised, torch.float32) - given_values).abs() <= quantised.step / 2 + rounding).all()


def test_a_group_without_range_comes_back_exactly() -> None:
    values = torch.full((3, 4), -2.5)
    assert torch.equal(dequantise(quantise(values, 4, dim=0), torch.float32), values)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=33))
def test_nibbles_come_back(codes: list[int]) -> None:
    packed = pack_nibbles(torch.tensor(codes, dtype=torch.uint8))
    assert len(packed) == (len(codes) + 1) // 2
    assert unpack_nibbles(packed, len(codes)).tolist() == codes
