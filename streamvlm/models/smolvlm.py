"""SmolVLM2: a SigLIP tower with pixel shuffle before a Llama; frames are squared, and never split into parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import SmolVLMForConditionalGeneration

from streamvlm.frame import Picture
from streamvlm.models.base import FrameSize, Sight
from streamvlm.models.chat import Turns, stream_as_text
from streamvlm.models.pixels import normalise, resize
from streamvlm.models.stock import StockModel, Wrapping, clock

# As the family words its video prompts; of a stream neither the number of frames nor the length is known.
_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_INTRODUCTION = "You are provided the following series of frames from a video."
_END_OF_STREAM = "\n\n"
_N_TEXT_TOKENS = 13


class SmolVlm(StockModel):
    """SmolVLM2 of any size."""

    family = "smolvlm"
    stock_class = SmolVLMForConditionalGeneration
    special_tokens = ("<fake_token_around_image>", "<global-img>")

    @classmethod
    def frame_size(cls, config: Any) -> FrameSize:
        """See ``StockModel.frame_size``."""
        side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
        return FrameSize(_N_TEXT_TOKENS + side**2, _N_TEXT_TOKENS + (-(-side // 2)) ** 2)

    @torch.inference_mode()
    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """See ``StockModel.see``; the feature is the mean of the tower's patches."""
        core = self.stock.model
        patches = core.vision_model(pixel_values=self.pixels(pictures).to(core.dtype)).last_hidden_state
        return [
            Sight(feature, detail)
            for feature, detail in zip(patches.float().mean(1), core.connector(patches), strict=True)
        ]

    def pixels(self, pictures: Sequence[Picture]) -> Tensor:
        """See ``StockModel.pixels``."""
        return normalise([self._square(p) for p in pictures], self.pixel_settings, self.device)

    def _square(self, picture: Picture) -> Picture:
        """Resizes as the family does: to the longest edge of its videos first, then, out of shape, to a square."""
        settings = self.pixel_settings
        longest = settings.get("video_sampling", {}).get("video_size", settings["size"])["longest_edge"]
        side = settings["max_image_size"]["longest_edge"]
        return resize(resize(picture, _fit(picture, longest), settings["resample"]), (side, side), settings["resample"])

    def _turns(self) -> Turns:
        turns = self.chat.turns(*stream_as_text(), _SYSTEM)
        return Turns(turns.opening + _INTRODUCTION, _END_OF_STREAM, turns.answering, turns.asking_again)

    def _wrapping(self, time_s: float) -> Wrapping:
        return Wrapping(
            f"\nFrame from {clock(time_s)}:<fake_token_around_image><global-img>", "<fake_token_around_image>"
        )


def _fit(picture: Picture, longest: int) -> tuple[int, int]:
    """The size (height, width) of a picture's shape whose longer edge is given; the other one is even."""
    height, width = picture.shape[:2]
    ratio = width / height
    other = int(longest / ratio) if width >= height else int(longest * ratio)
    other = max(other + other % 2, 1)
    return (other, longest) if width >= height else (longest, other)
