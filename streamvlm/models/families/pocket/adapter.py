"""Pocket behind the adapter interface: the bundled model, trained by this repository (``streamvlm.training``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from streamvlm.errors import ModelError
from streamvlm.frame import Fidelity, Picture
from streamvlm.models.base import Footprint, FrameTokens, Sight
from streamvlm.models.families.pocket import CHECKPOINT
from streamvlm.models.families.pocket.attributes import (
    N_ATTRIBUTES,
    N_CLEAR_TOKENS,
    N_FUZZY_TOKENS,
    SPAN,
    clock_columns,
)
from streamvlm.models.families.pocket.eye import Eye, posteriors
from streamvlm.models.families.pocket.pooling import pool_zones
from streamvlm.models.families.pocket.prompt import N_TIME_TOKENS, OPENING, question_ids, spoken, time_ids
from streamvlm.models.families.pocket.trunk import load_trunk, to_pixels
from streamvlm.models.families.pocket.vocabulary import END, PAD
from streamvlm.models.families.pocket.words import group_matrix
from streamvlm.models.loading import layout_of

FAMILY = "pocket"
_SCENE_ENERGY, _WORD_ENERGY = 2.0, 6.0
"""Weight of the scene and of the words in the gate's feature, in which each zone's colour, shape and badge weigh 1."""


class Pocket:
    """A frozen ImageNet trunk, an eye that reports attribute posteriors, and a small stock Llama.

    Args:
        folder: Checkpoint directory: ``config.json``, ``model.safetensors``, ``tokenizer.json``.
        name: What the user calls it.
        device: Where to run.
        dtype: Of the decoder; trunk and eye stay in float32.

    Raises:
        ModelError: If the checkpoint is incomplete or of another shape.
    """

    family = FAMILY
    max_dialogue_tokens = 24  # its training clips have one question and answer before the one that counts

    def __init__(
        self, folder: Path = CHECKPOINT, *, name: str = FAMILY, device: torch.device, dtype: torch.dtype
    ) -> None:
        config, weights, self._tokenizer = _read(folder)
        self.name = name
        self.fingerprint = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
        self.retrieval_heads: tuple[tuple[int, int], ...] | None = (
            tuple((layer, head) for layer, head in config["retrieval_heads"]) or None
        )
        self.noise_floor: float | None = float(config["noise_floor"])
        self.stop_ids = frozenset({END, PAD})
        self.yes_ids, self.no_ids = (
            frozenset(self._tokenizer.encode(word, add_special_tokens=False).ids) for word in ("yes", "no")
        )
        self.device = device
        llama, self._visual, self._eye = _build(LlamaConfig(**config["decoder"]), weights, folder)
        llama.to(device=device, dtype=dtype)
        self.text_model: Any = llama.model
        self.output_head: nn.Module = llama.lm_head
        self._visual.to(device=device, dtype=dtype)
        self._eye.to(device)
        self._trunk = load_trunk().to(device)
        self._word_of_class = group_matrix().to(device)
        self.layout = layout_of(llama.config, dtype)

    @classmethod
    def footprint(cls, folder: Path, dtype: torch.dtype) -> Footprint:
        """Returns the size of a kept frame, from the configuration in a folder alone."""
        decoder = LlamaConfig(**json.loads((folder / "config.json").read_text("utf-8"))["decoder"])
        return Footprint(layout_of(decoder, dtype), N_TIME_TOKENS + N_CLEAR_TOKENS, N_TIME_TOKENS + N_FUZZY_TOKENS)

    @torch.inference_mode()
    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """See ``VideoLanguageModel.see``; ``detail`` is a picture's (10, attributes) posteriors."""
        pixels = to_pixels(pictures).to(self.device)
        seen = self._trunk(pixels)
        rows = posteriors(self._eye(seen), seen.classes @ self._word_of_class)
        return [Sight(feature, detail) for feature, detail in zip(_features(rows), rows, strict=True)]

    @torch.inference_mode()
    def frame_tokens(self, sight: Sight, time_s: float, fidelity: Fidelity) -> FrameTokens:
        """See ``VideoLanguageModel.frame_tokens``: 3 timestamp tokens and 10 visual tokens, 5 when fuzzy."""
        detail = sight.detail
        if fidelity is Fidelity.FUZZY:
            quarters = torch.from_numpy(pool_zones(detail[1:].cpu().numpy())).to(detail)
            detail = torch.cat([detail[:1], quarters])
        detail = detail.clone()
        detail[:, clock_columns(time_s)] = 1.0
        visual = self._visual(detail.to(self._visual.weight))
        return FrameTokens(torch.cat([self.embed(time_ids(self._tokenizer, time_s)), visual]))

    def opening_tokens(self) -> Tensor:
        """See ``VideoLanguageModel.opening_tokens``."""
        return self.embed(self._tokenizer.encode(OPENING, add_special_tokens=False).ids)

    def question_tokens(self, question: str, *, follows_up: bool = False) -> Tensor:
        """See ``VideoLanguageModel.question_tokens``."""
        end = [END] if follows_up else []
        return self.embed([*end, *question_ids(self._tokenizer, question)])

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> Tensor:
        """See ``VideoLanguageModel.embed``."""
        embedded: Tensor = self.text_model.embed_tokens(torch.tensor(list(ids), device=self.device))
        return embedded

    def text(self, ids: Sequence[int]) -> str:
        """See ``VideoLanguageModel.text``."""
        return spoken(self._tokenizer, ids)


def _features(rows: Tensor) -> Tensor:
    """Turns (T, 10, attributes) posteriors into gate features (T, E).

    Square roots make each posterior a unit vector, so that a doubtful report moves the feature little and a
    changed one moves it the same whatever it was before.
    """
    whole, zones = rows[:, 0].sqrt(), rows[:, 1:, SPAN["colour"].start : SPAN["badge"].stop].sqrt()
    scene, words = whole[:, SPAN["scene"]], whole[:, SPAN["word"]]
    return torch.cat([zones.flatten(1), scene * _SCENE_ENERGY**0.5, words * _WORD_ENERGY**0.5], 1)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], Tokenizer]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        weights = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"The pocket checkpoint in {folder} is incomplete or damaged ({error}); reinstall streamvlm."
        ) from error
    return config, weights, tokenizer


def _build(config: LlamaConfig, weights: dict[str, Tensor], folder: Path) -> tuple[Any, nn.Linear, Eye]:
    llama: Any = LlamaForCausalLM(config)
    visual, eye = nn.Linear(N_ATTRIBUTES, config.hidden_size), Eye()
    parts: dict[str, nn.Module] = {"decoder": llama, "visual": visual, "eye": eye}
    try:
        for prefix, module in parts.items():
            own = {k.removeprefix(f"{prefix}."): v.float() for k, v in weights.items() if k.startswith(f"{prefix}.")}
            module.load_state_dict(own)
            module.eval().requires_grad_(False)
    except RuntimeError as error:
        raise ModelError(f"The checkpoint in {folder} is not one of pocket's shape: {error}.") from error
    return llama, visual, eye
