"""The curvature score: how far, and how sharply, a stream's feature trajectory turns at a frame.

Pure arithmetic on displacements between unit features; time, thresholds and fidelity are the gate's.

Source: CurveStream, arXiv:2603.19571 (curvature-aware scorer); the noise floor is ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST_STEP = 1e-6
"""Length below which a displacement is float32 rounding and has no direction."""


class TrajectoryTurn(NamedTuple):
    """A frame's score, and the motion M and curvature C that it is made of, each in [0, 2]."""

    score: float
    motion: float
    curvature: float


def unit_feature(feature: Tensor) -> Tensor:
    """Returns a feature (E,), of any device and length, as a unit vector: float64, CPU, zero if it is zero.

    Raises:
        ValueError: If the feature is not a vector or not finite.
    """
    vector = feature.detach().to("cpu", torch.float64)
    if vector.ndim != 1 or not bool(vector.isfinite().all()):
        raise ValueError(f"a frame's feature must be a finite vector, got shape {tuple(vector.shape)}: {vector}")
    return torch.nn.functional.normalize(vector, dim=0)


def motion(step: Tensor) -> float:
    """Returns M = 1 - cos of two unit features from their displacement: half its squared length."""
    return 0.5 * float(step @ step)


def curvature(before: Tensor, after: Tensor) -> float:
    """Returns C = 1 - cos of two successive displacements; 0 where one of them has no direction."""
    lengths = float(before.norm()), float(after.norm())
    if min(lengths) < SMALLEST_STEP:
        return 0.0
    return 1.0 - float(before @ after) / (lengths[0] * lengths[1])


def measure_turn(before: Tensor, after: Tensor, *, weight: float, floor: float = 0.0) -> TrajectoryTurn:
    """Scores a frame from the two displacements (E,) that lead to it.

    Without a floor this is CurveStream's M + weight * C. Noise then makes C = 1.5 however weak it is, because
    displacements between noisy views of a still scene correlate at -1/2. With a floor, C counts only as far
    as the shorter of its displacements stands above noise: nothing at M = floor, fully from 3 floors. The
    floor is taken off M as well, so that a still scene scores 0.
    """
    moved, turned = motion(after), curvature(before, after)
    shorter = min(motion(before), moved)
    trust = min(max((shorter - floor) / (2.0 * floor), 0.0), 1.0) if floor else 1.0
    return TrajectoryTurn(max(moved - floor, 0.0) + weight * trust * turned, moved, turned)


def calibrate_noise_floor(features: Tensor) -> float:
    """Returns the motion that noise alone makes: 1.5 times the 99th percentile of M over consecutive pairs.

    Args:
        features: (T, E) features of re-encodes of one still picture; T >= 2, better 50 or more.

    Raises:
        ValueError: If there are fewer than two features or one is not finite.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a noise floor needs (T >= 2, E) features, got shape {tuple(features.shape)}")
    steps = torch.stack([unit_feature(feature) for feature in features]).diff(dim=0)
    return 1.5 * float(steps.square().sum(dim=1).mul(0.5).quantile(0.99))
