"""The gate on simulated streams: what it keeps, what it lets go, and the statistics it decides by."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.gate.curvature import calibrate_noise_floor
from streamvlm.gate.gate import CurvatureGate, Decision, DecisionLog, GateConfig, KSigma, Reason

Vector = NDArray[np.float64]
SIZE = 384
NOISE = 0.002
KEPT = (Fidelity.CLEAR, Fidelity.FUZZY)


class Scene:
    """A point on the unit sphere, seen through noise, that can be moved by a known motion M."""

    def __init__(self, seed: int = 0, noise: float = NOISE) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.point = self._unit(self.rng.standard_normal(SIZE))
        self.aside = self._tangent()

    @staticmethod
    def _unit(vector: Vector) -> Vector:
        return vector / np.linalg.norm(vector)

    def _tangent(self) -> Vector:
        direction = self.rng.standard_normal(SIZE)
        return self._unit(direction - (direction @ self.point) * self.point)

    def turn(self, angle: float) -> Scene:
        """Goes on along the great circle, without a turn."""
        point, aside = self.point, self.aside
        self.point = math.cos(angle) * point + math.sin(angle) * aside
        self.aside = math.cos(angle) * aside - math.sin(angle) * point
        return self

    def jump(self, size: float) -> Scene:
        """Moves by M = size in a random direction."""
        self.aside = self._tangent()
        return self.turn(math.acos(1.0 - size))

    def view(self) -> Tensor:
        seen = self.point + self.noise * self.rng.standard_normal(SIZE)
        return torch.from_numpy(seen.astype(np.float32))

    def floor(self) -> float:
        return calibrate_noise_floor(torch.stack([self.view() for _ in range(200)]))


def run(features: Iterable[Tensor], config: GateConfig, *, fps: float = 5.0) -> list[Decision]:
    gate = CurvatureGate(config)
    return [gate.decide(feature, index / fps) for index, feature in enumerate(features)]


def share(decisions: Sequence[Decision], *fidelities: Fidelity) -> float:
    return sum(decision.fidelity in fidelities for decision in decisions) / len(decisions)


def config_for(scene: Scene, *, half_life_s: float = 30.0, max_gap_s: float = 30.0) -> GateConfig:
    return GateConfig(noise_floor=scene.floor(), half_life_s=half_life_s, max_gap_s=max_gap_s)


# Stillness and steady motion


@pytest.mark.parametrize(("noise", "expected"), [(0.002, 0.302), (0.01, 0.337), (0.03, 0.555)])
def test_the_published_score_of_a_still_scene_is_a_pedestal_of_its_noise(noise: float, expected: float) -> None:
    scene = Scene(noise=noise)
    decisions = run((scene.view() for _ in range(600)), GateConfig(variant="paper"))[2:]
    assert np.mean([decision.curvature for decision in decisions]) == pytest.approx(1.5, abs=0.01)
    assert np.mean([decision.score for decision in decisions]) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("noise", "expected", "tolerance"), [(0.0, 0.001, 0.001), (0.002, 0.168, 0.005)])
def test_the_published_score_of_a_pan_is_below_that_of_a_still_scene(
    noise: float, expected: float, tolerance: float
) -> None:
    scene = Scene(noise=noise)
    decisions = run((scene.turn(0.05).view() for _ in range(600)), GateConfig(variant="paper"))[2:]
    assert np.mean([decision.score for decision in decisions]) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("noise", [0.0005, 0.002, 0.01, 0.03])
def test_a_still_scene_scores_nothing_and_is_kept_only_for_coverage(noise: float) -> None:
    scene = Scene(noise=noise)
    decisions = run((scene.view() for _ in range(750)), config_for(scene))[3:]
    assert all(decision.score == 0.0 for decision in decisions)
    assert Counter(decision.reason for decision in decisions) == {Reason.QUIET: 743, Reason.COVERAGE: 4}


def test_a_frozen_picture_is_quiet_after_the_opening() -> None:
    decisions = run([Scene().view()] * 100, GateConfig())
    assert [decision.reason for decision in decisions] == [Reason.OPENING] * 3 + [Reason.QUIET] * 97


@pytest.mark.parametrize("noise", [0.0, 0.0005, 0.002])
@pytest.mark.parametrize("angle", [0.02, 0.05, 0.1])
def test_a_pan_is_kept_now_and_then_and_hardly_ever_clear(angle: float, noise: float) -> None:
    scene = Scene(noise=noise)
    config = GateConfig(noise_floor=max(scene.floor(), 1e-3))
    decisions = run((scene.turn(angle).view() for _ in range(600)), config)
    assert share(decisions, Fidelity.CLEAR) < 0.12
    assert 0.1 < share(decisions, *KEPT) < 0.65


def test_a_pan_out_of_a_long_rest_is_clear_at_first_and_then_usual() -> None:
    scene = Scene()
    config = config_for(scene)
    features = [scene.view() for _ in range(600)] + [scene.turn(0.1).view() for _ in range(600)]
    decisions = run(features, config)
    assert all(decision.fidelity is Fidelity.CLEAR for decision in decisions[601:610])
    assert share(decisions[600 + round(5 * config.half_life_s) :], Fidelity.CLEAR) < 0.05


# Turning points


@pytest.mark.parametrize("size", [0.02, 0.05])
def test_a_small_cut_is_below_the_still_background_in_the_published_score_and_clear_in_ours(
    size: float,
) -> None:
    scene = Scene()
    features = [scene.view() for _ in range(600)] + [scene.jump(size).view()]
    published = np.array([d.score for d in run(features, GateConfig(variant="paper"))[2:]])
    assert (published[-1] - published[:-1].mean()) / published[:-1].std() < -1.0
    assert run(features, config_for(scene))[-1].reason is Reason.TURNING_POINT


@pytest.mark.parametrize("size", [0.3, 0.5])
def test_a_large_cut_is_a_turning_point_to_both(size: float) -> None:
    scene = Scene()
    features = [scene.view() for _ in range(600)] + [scene.jump(size).view()]
    for config in (GateConfig(variant="paper"), config_for(scene)):
        assert run(features, config)[-1].reason is Reason.TURNING_POINT


def test_a_corner_in_a_pan_is_clear() -> None:
    scene = Scene(noise=0.0005)
    features = [scene.turn(0.1).view() for _ in range(600)]
    scene.aside = -scene.aside
    corner = run([*features, scene.turn(0.1).view()], config_for(scene))[-1]
    assert corner.reason is Reason.TURNING_POINT
    assert corner.curvature > 1.9


def test_a_flash_keeps_the_flash_and_the_return_and_nothing_else() -> None:
    scene = Scene()
    features = [scene.view() for _ in range(200)]
    features[100] = Scene(seed=1).view()
    decisions = run(features, config_for(scene, max_gap_s=1000.0))
    assert [d.time_s * 5 for d in decisions if d.fidelity in KEPT] == [0, 1, 2, 100, 101]
    assert decisions[101].curvature == pytest.approx(2.0, abs=0.01)


def eventful(scene: Scene, *, fps: int, event_s: int, cut_s: int) -> tuple[list[Tensor], list[int]]:
    """Ten minutes of stillness with small events, and cuts among them; the frames at which either begins."""
    features, onsets = [], []
    for index in range(600 * fps):
        if index and index % (cut_s * fps) == 0:
            scene.jump(0.5)
            onsets.append(index)
        elif index and index % (event_s * fps) == 0:
            scene.jump(float(scene.rng.uniform(0.02, 0.1)))
            onsets.append(index)
        features.append(scene.view())
    return features, onsets


@pytest.mark.parametrize("half_life_s", [10.0, 60.0])
@pytest.mark.parametrize(("fps", "event_s", "cut_s"), [(5, 8, 40), (2, 8, 40), (1, 8, 40), (2, 8, 10)])
def test_cuts_do_not_mask_the_events_between_them(fps: int, event_s: int, cut_s: int, half_life_s: float) -> None:
    scene = Scene()
    features, onsets = eventful(scene, fps=fps, event_s=event_s, cut_s=cut_s)
    decisions = run(features, config_for(scene, half_life_s=half_life_s), fps=fps)
    assert all(decisions[onset].fidelity in KEPT for onset in onsets)
    still = [decision for index, decision in enumerate(decisions[3:], 3) if {index, index - 1}.isdisjoint(onsets)]
    assert {decision.reason for decision in still} <= {Reason.QUIET, Reason.COVERAGE}
    n_kept = sum(decision.fidelity in KEPT for decision in decisions)
    assert n_kept <= len(onsets) + 3 + 600 / 30


def test_thresholds_of_the_plain_scores_would_mask_events() -> None:
    scene = Scene()
    features, onsets = eventful(scene, fps=1, event_s=3, cut_s=5)
    decisions = run(features, config_for(scene, half_life_s=10.0), fps=1)
    plain, n_below = KSigma(10.0), 0
    for index, decision in enumerate(decisions):
        plain.observe(decision.score, 1.0)
        n_below += index in onsets and decision.score < plain.bound(0.0)
    n_discarded = sum(decisions[onset].fidelity is Fidelity.DISCARDED for onset in onsets)
    assert n_below > 0.3 * len(onsets)
    assert n_discarded < 0.03 * len(onsets)


def test_a_fade_too_slow_to_show_in_any_step_is_kept_by_drift() -> None:
    scene = Scene()
    config = config_for(scene, max_gap_s=1000.0)
    decisions = run((scene.turn(0.005).view() for _ in range(600)), config)
    assert max(decision.score for decision in decisions[3:]) < config.noise_floor
    assert 0.01 < share(decisions, Fidelity.FUZZY) < 0.2
    assert {decision.reason for decision in decisions} == {Reason.OPENING, Reason.QUIET, Reason.DRIFT}


def test_drift_parts_what_is_near_the_last_kept_frame_from_what_is_not() -> None:
    scene = Scene()
    config = config_for(scene)
    features = [scene.jump(float(scene.rng.lognormal(-6.0, 1.5)) % 0.5).view() for _ in range(800)]
    decisions = run(features, config)
    kept = features[0]
    for feature, decision in zip(features, decisions, strict=True):
        distance = 1.0 - float(torch.nn.functional.cosine_similarity(feature, kept, dim=0))
        if decision.reason is Reason.DRIFT:
            assert distance > decision.fuzzy_threshold + config.noise_floor - 1e-6
        if decision.fidelity is Fidelity.DISCARDED:
            assert distance < decision.fuzzy_threshold + config.noise_floor + 1e-6
        else:
            kept = feature
    assert {Reason.DRIFT, Reason.QUIET} <= {decision.reason for decision in decisions}


# Rules on top


frames = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=80)


@settings(max_examples=100, deadline=None)
@given(frames=frames, variant=st.sampled_from(["floor", "paper"]), max_gap_s=st.sampled_from([0.5, 3.0, 20.0]))
def test_the_gap_between_kept_frames_never_exceeds_the_limit_and_one_spacing(
    frames: list[tuple[int, int]], variant: str, max_gap_s: float
) -> None:
    gate = CurvatureGate(GateConfig(variant="paper" if variant == "paper" else "floor", max_gap_s=max_gap_s))
    time_s = kept_s = 0.0
    for spacing, corner in frames:
        spacing_s = spacing / 8
        time_s += spacing_s
        if gate.decide(torch.eye(6)[corner], time_s).fidelity in KEPT:
            assert time_s - kept_s < max_gap_s + spacing_s or spacing == 0
            kept_s = time_s
        assert time_s - kept_s < max_gap_s


@settings(max_examples=50, deadline=None)
@given(frames=frames, offset=st.integers(-(2**20), 2**20), scale=st.sampled_from([0.25, 8.0]))
def test_decisions_do_not_depend_on_where_time_starts_or_how_long_features_are(
    frames: list[tuple[int, int]], offset: int, scale: float
) -> None:
    gate, shifted = CurvatureGate(GateConfig()), CurvatureGate(GateConfig())
    time_s = 0.0
    for spacing, corner in frames:
        time_s += spacing / 8
        decision = gate.decide(torch.eye(6)[corner], time_s)
        other = shifted.decide(scale * torch.eye(6)[corner], time_s + offset)
        assert dataclasses.replace(other, time_s=time_s) == decision


def test_the_first_three_frames_are_clear() -> None:
    for config in (GateConfig(), GateConfig(variant="paper")):
        decisions = run([Scene(seed).view() for seed in range(4)], config)
        assert [decision.reason for decision in decisions[:3]] == [Reason.OPENING] * 3
        assert decisions[3].reason is not Reason.OPENING


@pytest.mark.parametrize(
    ("feature", "time_s"),
    [(torch.full((SIZE,), math.nan), 1.0), (torch.ones(SIZE), 0.5), (torch.ones(SIZE), math.nan)],
)
def test_what_cannot_be_gated_is_refused_and_leaves_no_trace(feature: Tensor, time_s: float) -> None:
    views = [Scene(seed).view() for seed in range(3)]
    gate, untroubled = CurvatureGate(GateConfig()), CurvatureGate(GateConfig())
    for index in (0, 1):
        assert gate.decide(views[index], float(index)) == untroubled.decide(views[index], float(index))
    with pytest.raises(ValueError, match=r"finite vector|backwards"):
        gate.decide(feature, time_s)
    assert gate.decide(views[2], 2.0) == untroubled.decide(views[2], 2.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("half_life_s", 0.0),
        ("noise_floor", 0.0),
        ("max_gap_s", -1.0),
        ("curvature_weight", -0.1),
        ("k_fuzzy", 1.5),
        ("k_clear", 11.0),
    ],
)
def test_a_configuration_without_thresholds_is_refused(field: str, value: float) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match="must"):
        GateConfig(**changes)


# Statistics


def test_the_paper_variant_is_the_published_arithmetic() -> None:
    scene, fps, half_life_s = Scene(noise=0.01), 4, 5.0
    features = [scene.jump(float(scene.rng.uniform(0.0, 0.2))).view() for _ in range(60)]
    decisions = run(features, GateConfig(variant="paper", half_life_s=half_life_s, max_gap_s=1e9), fps=fps)
    points = torch.stack(features).double().numpy()
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    gamma, mean, variance = 0.5 ** (1 / (half_life_s * fps)), 0.0, 0.0
    for index in range(1, len(points)):
        score = 1.0 - points[index] @ points[index - 1]
        if index >= 2:
            before, after = points[index - 1] - points[index - 2], points[index] - points[index - 1]
            score += 0.2 * (1.0 - before @ after / np.linalg.norm(before) / np.linalg.norm(after))
        mean = gamma * mean + (1 - gamma) * score
        variance = gamma * variance + (1 - gamma) * (score - mean) ** 2
        decision = decisions[index]
        assert decision.score == pytest.approx(score)
        assert decision.fuzzy_threshold == pytest.approx(mean)
        assert decision.clear_threshold == pytest.approx(mean + math.sqrt(variance))
        if index >= 3:
            clear, fuzzy = score >= decision.clear_threshold, score >= mean
            assert decision.fidelity == ("clear" if clear else "fuzzy" if fuzzy else "discarded")


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("half_life_s", [20.0, 200.0])
def test_normal_scores_are_split_in_50_34_and_16_percent(half_life_s: float, from_zero: bool) -> None:
    statistics, counts = KSigma(half_life_s, from_zero=from_zero), [0, 0, 0]
    for index, score in enumerate(np.random.default_rng(0).normal(3.0, 0.5, 22_000).tolist()):
        statistics.observe(score, 1.0)
        if index >= 2000:
            counts[(score >= statistics.bound(0.0)) + (score >= statistics.bound(1.0))] += 1
    assert np.array(counts) / 20_000 == pytest.approx([0.5, 0.34, 0.16], abs=0.02)


def test_log_normal_movement_is_clear_in_16_percent_of_the_frames() -> None:
    scene = Scene(noise=0.0)
    config = GateConfig(noise_floor=1e-5, curvature_weight=0.0)
    sizes = scene.rng.lognormal(-5.0, 0.7, 2000)
    decisions = run((scene.jump(float(size)).view() for size in sizes), config)
    assert share(decisions, Fidelity.CLEAR) == pytest.approx(0.16, abs=0.02)


def test_a_value_counts_half_after_a_half_life() -> None:
    published, corrected = KSigma(10.0, from_zero=True), KSigma(10.0)
    published.observe(1.0, 10.0)
    corrected.observe(1.0, 10.0)
    assert (published.bound(0.0), corrected.bound(0.0)) == pytest.approx((0.5, 1.0))
    corrected.observe(0.0, 10.0)
    assert corrected.bound(0.0) == pytest.approx(1 / 3)


@settings(deadline=None)
@given(spacings=st.lists(st.integers(0, 160).map(lambda eighths: eighths / 8), min_size=1, max_size=30))
def test_the_mean_depends_on_the_time_that_passed_and_not_on_the_frames_in_it(spacings: list[float]) -> None:
    published, corrected = KSigma(10.0, from_zero=True), KSigma(10.0)
    for spacing in spacings:
        published.observe(1.0, spacing)
        corrected.observe(1.0, spacing)
    assert published.bound(0.0) == pytest.approx(1.0 - 0.5 ** (sum(spacings) / 10.0), abs=1e-9)
    assert corrected.bound(0.0) == pytest.approx(1.0 if any(spacings) else 0.0)


def test_events_are_kept_at_a_frame_rate_that_varies() -> None:
    scene = Scene()
    gate = CurvatureGate(config_for(scene, max_gap_s=1000.0))
    time_s = 0.0
    for index in range(600):
        time_s += float(scene.rng.choice([0.05, 0.2, 1.0]))
        if is_onset := index % 40 == 39:
            scene.jump(0.03)
        decision = gate.decide(scene.view(), time_s)
        if index >= 3:
            assert (decision.fidelity in KEPT) == is_onset


# The log


def decided(time_s: float, reason: Reason) -> Decision:
    return Decision(time_s, reason.fidelity, reason, 0.0, 0.0, 0.0, 0.0, 0.0)


def log_of(letters: str, capacity: int = 100) -> DecisionLog:
    """A log with a decision a second: ``c`` clear, ``f`` fuzzy, ``-`` discarded."""
    reasons = {"c": Reason.TURNING_POINT, "f": Reason.COVERAGE, "-": Reason.QUIET}
    log = DecisionLog(capacity)
    for index, letter in enumerate(letters):
        log.append(decided(float(index), reasons[letter]))
    return log


def test_the_log_is_bounded_and_its_counts_are_not() -> None:
    log = log_of("ccf" + "-" * 20, capacity=5)
    assert [decision.time_s for decision in log] == [18.0, 19.0, 20.0, 21.0, 22.0]
    assert log.counts == {Fidelity.CLEAR: 2, Fidelity.FUZZY: 1, Fidelity.DISCARDED: 20}


@pytest.mark.parametrize(
    ("letters", "span", "expected"),
    [
        ("", (0, 9), []),
        ("ccfc", (0, 9), []),
        ("c--f-c---", (0, 99), [(1, 3), (4, 5), (6, 8)]),
        ("--c", (0, 99), [(0, 2)]),
        ("c-----f", (2.5, 4), [(2.5, 4)]),
        ("c-----f--", (6, 7), []),
    ],
)
def test_gaps_are_the_spans_in_which_nothing_was_kept(
    letters: str, span: tuple[float, float], expected: list[tuple[float, float]]
) -> None:
    assert log_of(letters).gaps(*span) == expected


def test_nothing_is_claimed_of_times_the_log_has_forgotten() -> None:
    assert log_of("-" * 20, capacity=5).gaps(0, 99) == [(15, 19)]


def test_no_gap_reaches_over_a_frame_that_was_kept() -> None:
    log = DecisionLog(1000)
    scene = Scene()
    for decision in run((scene.jump(0.02).view() for _ in range(400)), config_for(scene)):
        log.append(decision)
    kept_s = [decision.time_s for decision in log if decision.fidelity in KEPT]
    spans = log.gaps(0.0, 80.0)
    assert spans
    assert not any(since_s < time_s < until_s for since_s, until_s in spans for time_s in kept_s)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
