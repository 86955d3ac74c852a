"""SmolVLM2: a SigLIP tower with pixel shuffle before a Llama; frames are squared, and never split into parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import SmolVLMForConditionalGeneration

from streamvlm.frame import Picture
from streamvlm.models.chat import Turns, stream_as_text
from streamvlm.models.pixels import normalise, resize
from streamvlm.models.stock_model import StockModel, Wrapping, clock

# The family's words of video prompts, without the number of frames and the length, which a stream has not.
_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_INTRODUCTION = "You are provided the following series of frames from a video."
_END_OF_STREAM = "\n\n"
_N_TEXT_TOKENS = 13  # the family's tokenizer takes digits one by one; one more from 100 minutes on


class SmolVlm(StockModel):
    """SmolVLM2 of any size."""

    family = "smolvlm"
    stock_class = SmolVLMForConditionalGeneration
    special_tokens = ("<fake_token_around_image>", "<global-img>")

    @staticmethod
    def frame_tokens_of(config: Any) -> tuple[int, int]:
        """See ``StockModel.frame_tokens_of``."""
        side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
        return _N_TEXT_TOKENS + side**2, _N_TEXT_TOKENS + (-(-side // 2)) ** 2

    @staticmethod
    def prepare(pictures: Sequence[Picture], settings: dict[str, Any], device: torch.device) -> Tensor:
        """See ``StockModel.prepare``: to the longest edge of the family's videos first, then, out of shape, square."""
        longest = settings.get("video_sampling", {}).get("video_size", settings["size"])["longest_edge"]
        side, resample = settings["max_image_size"]["longest_edge"], settings["resample"]
        fitted = (resize(picture, _fit(picture, longest), resample) for picture in pictures)
        return normalise([resize(picture, (side, side), resample) for picture in fitted], settings, device)

    @staticmethod
    def look(stock: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``StockModel.look``; the feature is the mean of the tower's patches."""
        patches = stock.model.vision_model(pixel_values=pixels).last_hidden_state
        return patches.mean(1, dtype=torch.float32), stock.model.connector(patches)

    def _turns(self) -> Turns:
        turns = self.chat.turns(*stream_as_text(), _SYSTEM)
        return Turns(turns.opening + _INTRODUCTION, _END_OF_STREAM, turns.answering, turns.asking_again)

    def _wrapping(self, time_s: float) -> Wrapping:
        return Wrapping(
            f"\nFrame from {clock(time_s)}:<fake_token_around_image><global-img>", "<fake_token_around_image>"
        )


def _fit(picture: Picture, longest: int) -> tuple[int, int]:
    """Returns the size (height, width) in a picture's shape whose longer edge is ``longest``; the other one is even."""
    height, width = picture.shape[:2]
    ratio = width / height
    other = int(longest / ratio) if width >= height else int(longest * ratio)
    other = max(other + other % 2, 1)
    return (other, longest) if width >= height else (longest, other)
