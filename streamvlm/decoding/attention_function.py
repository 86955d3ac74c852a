"""The one seam with transformers: an attention function that hands raw queries, keys and values to us.

transformers lets a library register an attention function, and passes extra keyword arguments of a model's
``forward`` down to it. The unmodified decoder stack is called with all positions set to zero, where rotary
embedding is the identity: what arrives is raw, to the bit; the pass given as ``stream`` rotates, keeps and
attends. Nothing is patched; models with another attention implementation never come here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from streamvlm.decoding.forward_passes import ContextExtension, Packed
from streamvlm.errors import ModelError

IMPLEMENTATION = "streamvlm"


def forward_stream(
    text_model: Any, embeddings: Tensor, stream: ContextExtension | Packed, deepstack: Tensor | None = None
) -> Tensor:
    """Runs a decoder stack, set to ``IMPLEMENTATION``, over embeddings (N, E): last hidden states (N, E).

    Args:
        text_model: The stack.
        embeddings: Of the new tokens.
        stream: What is done in the layers' attention.
        deepstack: (levels, N, E) features to add to the first layers' outputs, 0 where a token has none
            (DeepStack, arXiv:2406.04334, as Qwen3-VL has it).
    """
    zeros = torch.zeros(1, len(embeddings), dtype=torch.long, device=embeddings.device)
    more: dict[str, Any] = {}
    if deepstack is not None:
        more = {
            "visual_pos_masks": torch.ones_like(zeros, dtype=torch.bool),
            "deepstack_visual_embeds": list(deepstack),
        }
    output = text_model(inputs_embeds=embeddings[None], position_ids=zeros, use_cache=False, stream=stream, **more)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    stream: ContextExtension | Packed,
    scaling: float,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    if sliding_window is not None:
        raise ModelError("A model whose layers have their own sliding window cannot stream; choose another.")
    output = stream.attend(module.layer_idx, query[0], key[0], value[0], scaling)  # (H, N, D)
    return output.transpose(0, 1)[None], None  # (1, N, H, D), as transformers wants it


def _no_mask(*_: object, **__: object) -> None:
    """Takes the place of the mask that transformers would make out of positions that are all zero."""


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, _no_mask)
