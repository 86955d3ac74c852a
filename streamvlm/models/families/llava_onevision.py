"""LLaVA-OneVision: a SigLIP tower before a Qwen2; a video's frames are pooled to half the grid's side each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from streamvlm.frame import Picture
from streamvlm.models.chat import QWEN_SYSTEM, Turns
from streamvlm.models.pixels import normalise, resize
from streamvlm.models.stock_model import StockModel, Wrapping, clock

_N_TEXT_TOKENS = 10  # Qwen2's tokenizer takes digits one by one; one more from 100 minutes on


class LlavaOnevision(StockModel):
    """LLaVA-OneVision of any size.

    The family has no markup for a frame's time, so it is written as SmolVLM2 writes it. Its ``image_newline``, which
    ends a video, begins the first question, where the stream ends.
    """

    family = "llava_onevision"
    stock_class = LlavaOnevisionForConditionalGeneration
    special_tokens = ("<video>", "<|im_end|>")

    @staticmethod
    def frame_tokens_of(config: Any) -> tuple[int, int]:
        """See ``StockModel.frame_tokens_of``."""
        side = config.vision_config.image_size // config.vision_config.patch_size
        clear, fuzzy = -(-side // 2), -(-side // 4)
        return _N_TEXT_TOKENS + clear**2, _N_TEXT_TOKENS + fuzzy**2

    @staticmethod
    def prepare(pictures: Sequence[Picture], settings: dict[str, Any], device: torch.device) -> Tensor:
        """See ``StockModel.prepare``; frames become square, as the family does with videos."""
        size = settings["size"]["height"], settings["size"]["width"]
        return normalise([resize(picture, size, settings["resample"]) for picture in pictures], settings, device)

    @staticmethod
    def look(stock: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``StockModel.look``; the feature is the mean of the tower's patches."""
        seen = stock.model.get_video_features(pixels[None], return_dict=True)
        grids = seen.pooler_output[0, :-1].reshape(len(pixels), -1, seen.pooler_output.shape[-1])
        return seen.last_hidden_state.mean(1, dtype=torch.float32), grids

    def question_tokens(self, question: str, *, follows_up: bool = False) -> Tensor:
        """See ``VideoLanguageModel.question_tokens``."""
        asked = super().question_tokens(question, follows_up=follows_up)
        return asked if follows_up else torch.cat([self.stock.model.image_newline[None], asked])

    def _turns(self) -> Turns:
        turns = self.chat.turns({"type": "video"}, "<video>", QWEN_SYSTEM)
        # A frame begins with a line break, as the video does in the family's training; the template has a blank there.
        return Turns(turns.opening.rstrip(" "), turns.asking, turns.answering, turns.asking_again)

    def _wrapping(self, time_s: float) -> Wrapping:
        return Wrapping(f"\nFrame from {clock(time_s)}:")
