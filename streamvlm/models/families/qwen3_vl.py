"""Qwen3-VL, dense: tower features go to the decoder's first layers too (DeepStack), and time is text."""

from __future__ import annotations

from transformers import Qwen3VLForConditionalGeneration

from streamvlm.models.families.qwen_vl import QwenVl


class Qwen3Vl(QwenVl):
    """Qwen3-VL of any dense size, Instruct."""

    family = "qwen3_vl"
    stock_class = Qwen3VLForConditionalGeneration
