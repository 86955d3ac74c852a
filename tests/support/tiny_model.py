"""A very small video language model: one random decoder layer, two tokens a frame, answers without end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from streamvlm.frame import Fidelity, Picture
from streamvlm.memory.block import BlockLayout
from streamvlm.models.base import FrameTokens, Sight

_WIDTH, _HEAD, _WORDS = 8, 64, 16


class TinyModel:
    """Sees a picture's mean colour, and answers any question with random letters up to the limit.

    Args:
        device: Where to run.

    Attributes:
        looks: How many pictures each vision call took.
        n_passes: Decoder passes so far.
    """

    family = name = fingerprint = "tiny"
    noise_floor: float | None = 0.002
    max_dialogue_tokens = 64
    retrieval_heads: tuple[tuple[int, int], ...] | None = ((0, 0),)

    def __init__(self, device: str) -> None:
        config = LlamaConfig(
            vocab_size=_WORDS, hidden_size=_WIDTH, intermediate_size=_WIDTH, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1, head_dim=_HEAD, initializer_range=0.5,
            bos_token_id=None, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        torch.manual_seed(0)
        parts = nn.ModuleList([LlamaModel(config), nn.Linear(_WIDTH, _WORDS)]).to(device).requires_grad_(False)
        self.text_model: Any = parts[0]
        self.output_head = parts[1]
        self.device = torch.device(device)
        self.layout = BlockLayout(1, 1, _HEAD, torch.float32)
        self.stop_ids: frozenset[int] = frozenset()
        self.yes_ids, self.no_ids = frozenset({3, 5}), frozenset({4})
        self.looks: list[int] = []
        self.n_passes = 0
        self.text_model.register_forward_hook(self._count)

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        self.looks.append(len(pictures))
        features = [torch.tensor([*p.mean((0, 1)), 32.0], device=self.device).float() for p in pictures]
        return [Sight(feature, feature) for feature in features]

    def frame_tokens(self, sight: Sight, time_s: float, fidelity: Fidelity) -> FrameTokens:
        colour = torch.nn.functional.pad(sight.detail, (0, _WIDTH - len(sight.detail))) / 64
        clock = self.embed([int(time_s) % _WORDS])
        return FrameTokens(torch.cat([clock, colour[None].repeat(2 if fidelity is Fidelity.CLEAR else 1, 1)]))

    def opening_tokens(self) -> Tensor:
        return self.embed([1, 2])

    def question_tokens(self, question: str, *, follows_up: bool = False) -> Tensor:
        return self.embed([ord(letter) % _WORDS for letter in question])

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> Tensor:
        embedded: Tensor = self.text_model.embed_tokens(torch.tensor(list(ids), device=self.device))
        return embedded

    def text(self, ids: Sequence[int]) -> str:
        return "".join(chr(97 + i) for i in ids)

    def _count(self, *_: object) -> None:
        self.n_passes += 1


def colour(number: int) -> Picture:
    """Makes a small picture whose colour shows its number; neighbours differ enough to be turning points sometimes."""
    return np.full((2, 2, 3), [37 * number % 256, 91 * number % 256, 11 * number % 256], np.uint8)
