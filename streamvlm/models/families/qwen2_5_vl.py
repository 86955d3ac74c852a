"""Qwen2.5-VL: a tower with windowed attention; the family writes no time into the text."""

from __future__ import annotations

from transformers import Qwen2_5_VLForConditionalGeneration

from streamvlm.models.families.qwen_vl import QwenVl


class Qwen2_5Vl(QwenVl):
    """Qwen2.5-VL of any size, Instruct.

    In this family a frame's time is its position on the temporal axis, in seconds from the video's beginning. Here
    blocks are put together without gaps, so that axis gives their order alone, and time is text, as the family's
    successor writes it: in seconds, in which this family was trained to answer.
    """

    family = "qwen2_5_vl"
    stock_class = Qwen2_5_VLForConditionalGeneration
