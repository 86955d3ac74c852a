"""Finds a model's retrieval heads once, with needles planted in a synthetic stream, and remembers them.

Found heads are kept in the user's cache under the checkpoint's fingerprint; pocket ships with its own.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamvlm.decoding.calibration import HeadRank, Trial, keep_smallest, rank_retrieval_heads
from streamvlm.decoding.context import Kept
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.frame import Fidelity
from streamvlm.models.base import VideoLanguageModel
from streamvlm.retrieval.heads import RetrievalHead
from streamvlm.world.events import Appearance, World, make_world
from streamvlm.world.questions import Examiner
from streamvlm.world.render import render

logger = logging.getLogger(__name__)

_WORLD_S, _N_WORLDS, _WINDOW_BLOCKS = 400.0, 3, 8
_NEEDLE_KINDS = ("where", "badge", "scene", "what", "colour")
"""Questions that one block alone answers."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """All heads, best first, and the few that are kept."""

    ranks: Sequence[HeadRank]
    heads: tuple[RetrievalHead, ...]


def heads_of(model: VideoLanguageModel) -> tuple[RetrievalHead, ...]:
    """The model's retrieval heads: shipped with it, calibrated before, or calibrated now (about a minute)."""
    if model.retrieval_heads:
        return tuple(RetrievalHead(*pair) for pair in model.retrieval_heads)
    try:
        kept = json.loads(_cache_file(model).read_text("utf-8"))
        return tuple(RetrievalHead(layer, head) for layer, head in kept)
    except (OSError, ValueError):
        logger.info("calibrating the retrieval heads of %s", model.name)
        heads = calibrate(model).heads
        save_heads(model, heads)
        return heads


def save_heads(model: VideoLanguageModel, heads: Sequence[RetrievalHead]) -> Path | None:
    """Keeps a calibration for later sessions; returns where, or None where nothing can be written."""
    path = _cache_file(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([[h.layer, h.head] for h in heads]), "utf-8")
    except OSError as error:
        logger.warning("the calibration of %s is not kept: %s", model.name, error)
        return None
    return path


def calibrate(model: VideoLanguageModel, *, seed: int = 0) -> Calibration:
    """Shows the model synthetic streams, asks about single moments, and ranks every head by how it finds them."""
    trials = [t for i in range(_N_WORLDS) for t in _trials(model, make_world(10_000 * (seed + 1) + i, _WORLD_S))]
    ranks = rank_retrieval_heads(trials)
    return Calibration(ranks, keep_smallest(ranks, trials))


def _trials(model: VideoLanguageModel, world: World) -> list[Trial]:
    """One trial for each question that a single block answers; a block for each appearance."""
    decoder = StreamDecoder(model.text_model, model.output_head)
    examiner = Examiner(world, np.random.default_rng(world.seed))
    opening = model.opening_tokens()
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    blocks: list[Kept] = []
    for shown in world.appearances:
        blocks.append(_encode(model, decoder, world, shown, [Kept(sinks), *blocks[-_WINDOW_BLOCKS:]]))
    payloads = [block.payload for block in blocks]
    layers = range(decoder.layout.n_layers)
    trials = []
    for number in range(len(world.appearances) - _WINDOW_BLOCKS):
        shown = world.appearances[number]
        if any(a is not shown and a.start_s < shown.end_s and shown.start_s < a.end_s for a in world.appearances):
            continue  # another block shows it as well
        for question in examiner.about(number, world.duration_s):
            if question.kind in _NEEDLE_KINDS:
                asked = model.question_tokens(question.text)
                context = decoder.context_of([Kept(sinks), *blocks[-_WINDOW_BLOCKS:]], len(asked))
                trials.append(Trial(decoder.probe(asked, context, layers), payloads, number))
    return trials


def _encode(
    model: VideoLanguageModel,
    decoder: StreamDecoder,
    world: World,
    shown: Appearance,
    before: Sequence[Kept],
) -> Kept:
    time_s = (shown.start_s + shown.end_s) / 2
    (sight,) = model.see([render(world, time_s)])
    tokens = model.frame_tokens(sight, time_s, Fidelity.CLEAR)
    context = decoder.context_of(before, len(tokens))
    _, payload = decoder.prefill(tokens.embeddings, context, positions=tokens.positions, deepstack=tokens.deepstack)
    return Kept(payload, positions=tokens.positions)


def _cache_file(model: VideoLanguageModel) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "streamvlm" / "heads" / f"{model.fingerprint}.json"
