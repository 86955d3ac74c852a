"""Qwen2.5-VL: a tower with windowed attention, and no time in the text of its own."""

from __future__ import annotations

from transformers import Qwen2_5_VLForConditionalGeneration

from streamvlm.models.families.qwen_vl import QwenVl


class Qwen2_5Vl(QwenVl):
    """Qwen2.5-VL of any size, Instruct.

    The family tells a frame's time by where it stands on the temporal axis, in seconds from the video's beginning. What
    is attended here stands close together whatever lies between, so that axis tells order alone, and time is text, as
    its successor writes it: in seconds, which this family has been trained to answer in.
    """

    family = "qwen2_5_vl"
    stock_class = Qwen2_5_VLForConditionalGeneration
