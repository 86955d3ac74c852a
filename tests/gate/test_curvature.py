"""The curvature score on curves whose turning is known, and on noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from streamvlm.gate.curvature import calibrate_noise_floor, curvature, measure_turn, motion, unit_feature


def on_circle(angle: float) -> Tensor:
    return torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)


def step_of_motion(size: float, direction: tuple[float, float]) -> Tensor:
    return torch.tensor(direction, dtype=torch.float64) * math.sqrt(2.0 * size)


def test_a_straight_line_does_not_turn() -> None:
    step = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    assert curvature(step, 2.5 * step) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("angle", [0.01, 0.3, 1.5, 3.0])
def test_a_circle_moves_and_turns_by_its_angle(angle: float) -> None:
    first, second, third = (on_circle(k * angle) for k in range(3))
    assert motion(third - second) == pytest.approx(1.0 - math.cos(angle), rel=1e-9)
    assert curvature(second - first, third - second) == pytest.approx(1.0 - math.cos(angle), rel=1e-9)


def test_a_reversal_turns_most() -> None:
    step = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    assert curvature(step, -step) == pytest.approx(2.0)


def test_a_rest_and_its_rounding_have_no_direction() -> None:
    step = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert curvature(torch.zeros_like(step), step) == 0.0
    assert curvature(step, -1e-7 * step) == 0.0


def test_without_a_floor_the_score_is_the_published_one() -> None:
    turn = measure_turn(step_of_motion(0.1, (1, 0)), step_of_motion(0.3, (0, 1)), weight=0.2)
    assert turn == pytest.approx((0.3 + 0.2 * 1.0, 0.3, 1.0))


@pytest.mark.parametrize(("floors", "trust"), [(0.5, 0.0), (1.0, 0.0), (2.0, 0.5), (3.0, 1.0), (9.0, 1.0)])
def test_a_turn_is_trusted_as_far_as_its_shorter_step_stands_above_the_floor(floors: float, trust: float) -> None:
    short, long = step_of_motion(0.01 * floors, (1, 0)), step_of_motion(0.2, (0, 1))
    assert measure_turn(short, long, weight=0.2, floor=0.01).score == pytest.approx(0.19 + 0.2 * trust)
    moved = max(0.01 * floors - 0.01, 0.0)
    assert measure_turn(long, short, weight=0.2, floor=0.01).score == pytest.approx(moved + 0.2 * trust)


def test_a_feature_is_put_on_the_unit_sphere_whatever_its_length() -> None:
    feature = torch.tensor([3.0, 4.0])
    expected = torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(unit_feature(feature), expected)
    torch.testing.assert_close(unit_feature(1e-6 * feature), expected, atol=1e-7, rtol=0.0)
    assert not unit_feature(torch.zeros(2)).any()


@pytest.mark.parametrize("bad", [torch.tensor([1.0, math.nan]), torch.tensor([math.inf, 0.0]), torch.ones(2, 2)])
def test_a_feature_that_is_no_finite_vector_is_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="finite vector"):
        unit_feature(bad)


def test_the_floor_is_one_and_a_half_times_the_motion_that_noise_hardly_exceeds() -> None:
    circle = torch.stack([on_circle(0.1 * k) for k in range(50)])
    assert calibrate_noise_floor(circle) == pytest.approx(1.5 * (1.0 - math.cos(0.1)), rel=1e-6)
    still = torch.from_numpy(np.random.default_rng(0).normal(1.0, 0.05, (400, 128)).astype(np.float32))
    unit = torch.nn.functional.normalize(still, dim=1)
    moved = 1.0 - (unit[1:] * unit[:-1]).sum(dim=1)
    floor = calibrate_noise_floor(still)
    assert floor == pytest.approx(1.5 * float(moved.quantile(0.99)), rel=1e-3)
    assert floor > float(moved.max())


def test_a_floor_needs_two_features() -> None:
    with pytest.raises(ValueError, match="T >= 2"):
        calibrate_noise_floor(torch.ones(1, 8))
