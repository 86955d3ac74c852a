"""A tiny checkpoint, and two models on top of it: ours and the unmodified one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fabricate import Family, tokenizer_of

from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.frame import Fidelity, Picture
from streamvlm.models.base import FrameTokens, VideoLanguageModel


@dataclass(frozen=True)
class Pair:
    """A checkpoint loaded twice: by us, and by its stock class with its own attention."""

    family: str
    folder: Path
    made: Family
    ours: VideoLanguageModel
    stock: Any

    @property
    def decoder(self) -> StreamDecoder:
        return StreamDecoder(self.ours.text_model, self.ours.output_head)

    def frames(self, pictures: Sequence[Picture], times_s: Sequence[float]) -> list[FrameTokens]:
        sights = self.ours.see(pictures)
        return [self.ours.frame_tokens(s, t, Fidelity.CLEAR) for s, t in zip(sights, times_s, strict=True)]

    def stock_inputs(
        self, pictures: Sequence[Picture], times_s: Sequence[float], said: Sequence[str]
    ) -> dict[str, Any]:
        """Returns the inputs that the family's own processor makes for the stock model, on its device."""
        prepared = self.made.prepare(self.folder, pictures)
        tokenizer = tokenizer_of(self.family)
        prompt = self.made.prompt(times_s, prepared.n_visual, said)
        tokens = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False).ids])
        types = torch.zeros_like(tokens)
        for token, kind in self.made.token_types.items():
            types[tokens == tokenizer.token_to_id(token)] = kind
        told = {"mm_token_type_ids": types} if self.made.token_types else {}
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **told, **prepared.inputs}
        return {name: given.to(self.stock.device) for name, given in inputs.items()}


def pictures(n_pictures: int, seed: int = 0) -> list[Picture]:
    """Makes coarse noise in several shapes, so that pictures differ and resizing matters."""
    rng = np.random.default_rng(seed)
    shapes = [(48, 64), (64, 48), (37, 91), (120, 90)]
    coarse = [rng.integers(0, 256, (*shapes[i % 4], 3), np.uint8) for i in range(n_pictures)]
    return [np.kron(picture, np.ones((2, 2, 1), np.uint8)) for picture in coarse]
