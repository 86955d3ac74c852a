"""Tiny random models of stock families, and a decoder that shares a model's weights but has its own attention."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.models.families.pocket import CHECKPOINT

N_WORDS = 61


@pytest.fixture
def make_model(device: str) -> Callable[..., Any]:
    def make(
        family: str = "llama",
        n_layers: int = 2,
        n_heads: int = 4,
        n_kv_heads: int = 2,
        head_dim: int = 8,
        seed: int = 0,
        **more: Any,
    ) -> Any:
        if family == "pocket":
            return pocket_decoder().to(device)
        kind: Any = LlamaConfig if family == "llama" else Qwen2Config
        config = kind(
            vocab_size=N_WORDS,
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            num_key_value_heads=n_kv_heads,
            head_dim=head_dim,
            initializer_range=0.3,  # far from the uniform attention that small weights give
            attn_implementation=more.pop("attn_implementation", "sdpa"),
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
            **more,
        )
        torch.manual_seed(seed)
        model: Any = (LlamaForCausalLM if family == "llama" else Qwen2ForCausalLM)(config)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.3)
        return model.to(device).eval()

    return make


def pocket_decoder() -> Any:
    """Loads the bundled checkpoint's decoder as its stock class."""
    config = json.loads((CHECKPOINT / "config.json").read_text("utf-8"))
    model: Any = LlamaForCausalLM(LlamaConfig(**config["decoder"]))
    weights = load_file(CHECKPOINT / "model.safetensors")
    own = {k.removeprefix("decoder."): v.float() for k, v in weights.items() if k.startswith("decoder.")}
    model.load_state_dict(own)
    return model.eval()


@pytest.fixture
def decoder_of() -> Callable[[Any], StreamDecoder]:
    def of(model: Any) -> StreamDecoder:
        twin = copy.deepcopy(model)
        return StreamDecoder(twin.model, twin.lm_head)

    return of
