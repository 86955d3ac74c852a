"""Finds a model's retrieval heads with needles planted in a synthetic stream, and the noise floor of its feature.

Both are stored in the user's cache under the checkpoint's fingerprint; pocket ships with its own.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from streamvlm.calibration.head_ranking import HeadRank, Trial, keep_smallest, rank_retrieval_heads
from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.frame import Fidelity
from streamvlm.gate.curvature import SMALLEST_STEP, calibrate_noise_floor
from streamvlm.models.base import VideoLanguageModel
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.world.events import Appearance, World, make_world
from streamvlm.world.questions import Examiner
from streamvlm.world.render import render

logger = logging.getLogger(__name__)

_WORLD_S, _N_WORLDS, _WINDOW_BLOCKS = 400.0, 3, 8
_LEAST_BLOCKS, _LEAST_TRIALS = 20, 10
"""Fewest blocks and trials of a world: more blocks than the window, or it would hold all needles."""
_N_MOMENTS, _N_STILLS = 3, 8
_NEEDLE_KINDS = ("where", "badge", "scene", "what", "colour")
"""Questions that one block alone answers."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measurements of one checkpoint.

    Attributes:
        ranks: All heads, best first; empty if the calibration was read from the cache.
        heads: The few that retrieval uses.
        noise_floor: Motion of the gate's feature that noise alone makes.
    """

    ranks: Sequence[HeadRank]
    heads: tuple[RetrievalHead, ...]
    noise_floor: float


def heads_of(model: VideoLanguageModel) -> tuple[RetrievalHead, ...]:
    """Returns the model's retrieval heads: shipped with it, calibrated before, or calibrated now (minutes at most)."""
    if model.retrieval_heads:
        return tuple(RetrievalHead(*pair) for pair in model.retrieval_heads)
    return _calibrated(model).heads


def noise_floor_of(model: VideoLanguageModel) -> float:
    """Returns the model's noise floor: shipped with it, or measured with its retrieval heads."""
    return model.noise_floor if model.noise_floor is not None else _calibrated(model).noise_floor


def _calibrated(model: VideoLanguageModel) -> Calibration:
    try:
        kept = json.loads(_cache_file(model).read_text("utf-8"))
        heads = tuple(RetrievalHead(layer, head) for layer, head in kept["heads"])
        return Calibration((), heads, float(kept["noise_floor"]))
    except (OSError, ValueError, KeyError, TypeError):
        logger.info("calibrating the retrieval heads of %s", model.name)
        found = calibrate(model)
        save_calibration(model, found)
        return found


def save_calibration(model: VideoLanguageModel, found: Calibration) -> Path | None:
    """Writes a calibration to the cache; returns its path, or None if nothing can be written."""
    path = _cache_file(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        heads = [[h.layer, h.head] for h in found.heads]
        path.write_text(json.dumps({"heads": heads, "noise_floor": found.noise_floor}), "utf-8")
    except OSError as error:
        logger.warning("the calibration of %s is not kept: %s", model.name, error)
        return None
    return path


def calibrate(model: VideoLanguageModel, *, seed: int = 0, most_s: float = 300.0) -> Calibration:
    """Shows the model synthetic streams, asks about single moments, and ranks every head by how well it finds them.

    Args:
        model: To calibrate.
        seed: Of the streams.
        most_s: After so many seconds it stops, as soon as the fewest blocks and trials are made.
    """
    began_s = time.monotonic()
    trials: list[Trial] = []
    for i in range(_N_WORLDS):
        world = make_world(10_000 * (seed + 1) + i, _WORLD_S)
        trials += _trials(model, world, began_s + most_s * (i + 1) / _N_WORLDS)
        if time.monotonic() - began_s >= most_s:
            break
    ranks = rank_retrieval_heads(trials)
    floor = model.noise_floor if model.noise_floor is not None else measure_noise_floor(model, _N_MOMENTS, _N_STILLS)
    return Calibration(ranks, keep_smallest(ranks, trials), floor)


def measure_noise_floor(model: VideoLanguageModel, n_moments: int, n_stills: int) -> float:
    """Returns the motion of the gate's feature while nothing but sensor noise changes in a synthetic world."""
    world = make_world(77, 200.0)
    floors = []
    for moment_s in np.random.default_rng(0).uniform(2, 198, n_moments):
        stills = [render(replace(world, seed=seed), float(moment_s)) for seed in range(n_stills)]
        floors.append(calibrate_noise_floor(torch.stack([sight.feature for sight in model.see(stills)])))
    return max(float(np.median(floors)), SMALLEST_STEP)


def _trials(model: VideoLanguageModel, world: World, until_s: float) -> list[Trial]:
    """Returns one trial for each question that a single block answers; there is a block for each appearance.

    Even after the time limit, the fewest blocks are encoded and the fewest trials made.
    """
    decoder = StreamDecoder(model.text_model, model.output_head)
    examiner = Examiner(world, np.random.default_rng(world.seed))
    opening = model.opening_tokens()
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    blocks: list[KeyValues] = []
    for shown in world.appearances:
        if len(blocks) >= _LEAST_BLOCKS and time.monotonic() >= until_s:
            break
        blocks.append(_encode(model, decoder, world, shown, [KeyValues(sinks), *blocks[-_WINDOW_BLOCKS:]]))
    payloads = [block.payload for block in blocks]
    layers = range(decoder.layout.n_layers)
    trials: list[Trial] = []
    for number, shown in enumerate(world.appearances[: len(blocks) - _WINDOW_BLOCKS]):
        if any(a is not shown and a.start_s < shown.end_s and shown.start_s < a.end_s for a in world.appearances):
            continue  # another block shows it as well
        for question in examiner.about(number, world.duration_s):
            if len(trials) >= _LEAST_TRIALS and time.monotonic() >= until_s:
                return trials
            if question.kind in _NEEDLE_KINDS:
                asked = model.question_tokens(question.text)
                context = decoder.context_of([KeyValues(sinks), *blocks[-_WINDOW_BLOCKS:]], len(asked))
                trials.append(Trial(decoder.probe(asked, context, layers), payloads, number))
    return trials


def _encode(
    model: VideoLanguageModel,
    decoder: StreamDecoder,
    world: World,
    shown: Appearance,
    before: Sequence[KeyValues],
) -> KeyValues:
    time_s = (shown.start_s + shown.end_s) / 2
    (sight,) = model.see([render(world, time_s)])
    tokens = model.frame_tokens(sight, time_s, Fidelity.CLEAR)
    context = decoder.context_of(before, len(tokens))
    _, payload = decoder.prefill(tokens.embeddings, context, positions=tokens.positions, deepstack=tokens.deepstack)
    return KeyValues(payload, positions=tokens.positions)


def _cache_file(model: VideoLanguageModel) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "streamvlm" / "calibration" / f"{model.fingerprint}.json"
