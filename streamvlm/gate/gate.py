"""The gate: decides, frame by frame, whether a frame is kept clear, kept fuzzy or only logged.

It sees one feature a frame and the stream time, does O(E) work and holds three vectors; it knows no model,
memory or question. Between two kept frames lie at most ``max_gap_s`` seconds and one frame spacing.

Variant ``paper`` is CurveStream (arXiv:2603.19571) as published, with a half-life where it gives no decay.
The default, ``floor``, mends four things:

* *Noise.* Motion and curvature count above a calibrated floor m0, so a still scene scores 0: see `curvature`.
* *Warm-up.* The statistics start from the stream's own scores, not from zeros.
* *Masking.* One cut scores as much as many small events together and, averaged as it is, lifts the thresholds
  over them. So the statistics are those of log(1 + score / m0), where a cut weighs as much as a few events.
* *Ties.* The thresholds are m0 * exp(mean + k * sigma), one m0 above the score that the mean stands for:
  steady motion and stillness equal their own mean, and must not be kept by its rounding.

*Drift* is a rule on top: a frame farther from the last kept frame than the fuzzy threshold is kept fuzzy. So
slow change is kept though no step of it shows, and an event masked after all is kept once thresholds calm.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, pairwise
from typing import Literal

from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.gate.curvature import measure_turn, motion, unit_feature

OPENING_FRAMES = 3
"""How many frames a stream opens with, kept clear: as many as one turn takes."""


class Reason(StrEnum):
    """Why a frame got the fidelity that it has."""

    OPENING = "opening"
    TURNING_POINT = "turning point"
    MOVEMENT = "movement"
    DRIFT = "drift"
    COVERAGE = "coverage"
    QUIET = "quiet"

    @property
    def fidelity(self) -> Fidelity:
        """The fidelity that follows from the reason."""
        match self:
            case Reason.OPENING | Reason.TURNING_POINT:
                return Fidelity.CLEAR
            case Reason.MOVEMENT | Reason.DRIFT | Reason.COVERAGE:
                return Fidelity.FUZZY
            case Reason.QUIET:
                return Fidelity.DISCARDED


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Settings of the gate.

    Attributes:
        variant: ``floor`` (ours) or ``paper`` (as published).
        curvature_weight: lambda, the weight of curvature against motion.
        k_fuzzy: A frame is kept fuzzy from so many sigma above the mean.
        k_clear: A frame is kept clear from so many sigma above the mean.
        half_life_s: Stream time after which a score counts half in the statistics. A scene that starts to
            move after a long rest is kept clear for up to as long.
        noise_floor: m0, the motion of noise alone; each model's feature has its own, see `calibrate_noise_floor`.
        max_gap_s: Longest stretch of stream time with nothing kept.
    """

    variant: Literal["floor", "paper"] = "floor"
    curvature_weight: float = 0.2
    k_fuzzy: float = 0.0
    k_clear: float = 1.0
    half_life_s: float = 30.0
    noise_floor: float = 0.002
    max_gap_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuses values from which no threshold can be formed."""
        if not min(self.half_life_s, self.noise_floor, self.max_gap_s) > 0.0 <= self.curvature_weight:
            raise ValueError(f"half-life, floor and gap must be > 0 and the curvature weight >= 0: {self}")
        if not -10.0 <= self.k_fuzzy <= self.k_clear <= 10.0:
            raise ValueError(f"k_fuzzy must not exceed k_clear, both within [-10, 10]: {self}")


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's verdict on one frame, and the numbers that led to it."""

    time_s: float
    fidelity: Fidelity
    reason: Reason
    score: float
    motion: float
    curvature: float
    fuzzy_threshold: float
    clear_threshold: float


class KSigma:
    """Running mean and deviation that forget by stream time, so that the frame rate may vary.

    Args:
        half_life_s: Stream time after which a value counts half.
        from_zero: Start from a mean and deviation of 0, as published; else from nothing (bias-corrected).
    """

    def __init__(self, half_life_s: float, *, from_zero: bool = False) -> None:
        self._half_life_s = half_life_s
        self._weight = 1.0 if from_zero else 0.0
        self._mean = self._variance = 0.0

    def observe(self, value: float, elapsed_s: float) -> None:
        """Adds a value, ``elapsed_s`` seconds after the one before."""
        gamma = 0.5 ** (elapsed_s / self._half_life_s)
        self._weight = gamma * self._weight + (1.0 - gamma)
        share = (1.0 - gamma) / self._weight if self._weight else 0.0
        self._mean += share * (value - self._mean)
        self._variance += share * ((value - self._mean) ** 2 - self._variance)

    def bound(self, k: float) -> float:
        """Returns mean + k * sigma."""
        return self._mean + k * math.sqrt(self._variance)


@dataclass(frozen=True, slots=True)
class _Trail:
    """The end of the trajectory: the last frame, the step that led to it, and the last frame that was kept."""

    time_s: float
    feature: Tensor
    step: Tensor
    kept_s: float
    kept_feature: Tensor
    n_frames: int


class CurvatureGate:
    """Gates the frames of one stream."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        # Floor 0 stands for the published gate: plain scores, linear statistics, no drift.
        self._floor = config.noise_floor if config.variant == "floor" else 0.0
        self._statistics = KSigma(config.half_life_s, from_zero=config.variant == "paper")
        self._trail: _Trail | None = None

    def decide(self, feature: Tensor, time_s: float) -> Decision:
        """Decides on the stream's next frame.

        Args:
            feature: (E,) float32, the frame's global feature, any device and length.
            time_s: Stream time of the frame, not before the last one's.

        Raises:
            ValueError: If the feature is not finite or time goes backwards; the gate is then as it was.
        """
        unit = unit_feature(feature)
        trail = self._trail or _Trail(time_s, unit, unit - unit, time_s, unit, 0)
        if not time_s >= trail.time_s:
            raise ValueError(f"stream time went backwards, from {trail.time_s} s to {time_s} s")
        step = unit - trail.feature
        turn = measure_turn(trail.step, step, weight=self._config.curvature_weight, floor=self._floor)
        fuzzy, clear = self._thresholds(turn.score, time_s - trail.time_s)
        drift = motion(unit - trail.kept_feature) - self._floor if self._floor else 0.0

        if trail.n_frames < OPENING_FRAMES:
            reason = Reason.OPENING
        elif turn.score >= clear:
            reason = Reason.TURNING_POINT
        elif turn.score >= fuzzy:
            reason = Reason.MOVEMENT
        elif drift >= fuzzy:
            reason = Reason.DRIFT
        elif time_s - trail.kept_s >= self._config.max_gap_s:
            reason = Reason.COVERAGE
        else:
            reason = Reason.QUIET

        kept = (trail.kept_s, trail.kept_feature) if reason is Reason.QUIET else (time_s, unit)
        self._trail = _Trail(time_s, unit, step, *kept, trail.n_frames + 1)
        return Decision(time_s, reason.fidelity, reason, *turn, fuzzy, clear)

    def _thresholds(self, score: float, elapsed_s: float) -> tuple[float, float]:
        floor, statistics = self._floor, self._statistics
        statistics.observe(math.log1p(score / floor) if floor else score, elapsed_s)
        fuzzy, clear = statistics.bound(self._config.k_fuzzy), statistics.bound(self._config.k_clear)
        return (floor * math.exp(fuzzy), floor * math.exp(clear)) if floor else (fuzzy, clear)


class DecisionLog:
    """The newest decisions of a stream, oldest first, and counts of all decisions so far."""

    def __init__(self, capacity: int) -> None:
        self._decisions: deque[Decision] = deque(maxlen=capacity)
        self.counts: Counter[Fidelity] = Counter()

    def __iter__(self) -> Iterator[Decision]:
        """Iterates over the decisions still held."""
        return iter(self._decisions)

    def append(self, decision: Decision) -> None:
        """Adds the next decision; a full log drops its oldest one."""
        self._decisions.append(decision)
        self.counts[decision.fidelity] += 1

    def gaps(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        """Returns the (from, to) spans within [start_s, end_s] in which frames came and none was kept.

        A span runs from the first frame discarded to the next one kept, or to the newest. Times that the log no
        longer holds, or that lie ahead, are in no span.
        """
        spans: list[tuple[float, float]] = []
        runs = groupby(pairwise(self._decisions), key=lambda pair: pair[0].fidelity is Fidelity.DISCARDED)
        for is_gap, run in runs:
            pairs = list(run)
            since_s, until_s = max(pairs[0][0].time_s, start_s), min(pairs[-1][1].time_s, end_s)
            if is_gap and since_s < until_s:
                spans.append((since_s, until_s))
        return spans
