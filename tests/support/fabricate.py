"""Tiny random checkpoints of real families, written to a folder like those of a hub, so that loading runs offline.

A family is one entry of ``FAMILIES``: its configuration, its tokenizer's special tokens, its chat template, its
preprocessing numbers, and the prompt and the pixels that its own processor makes, which are the tests' oracles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from streamvlm.frame import Picture

QUESTION = "What was on the table at 00:07?"
_CORPUS = [
    "User: you are provided frames from a video. Frame from 00:07: what is on the table? Assistant: a red cup"
] * 9
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_DIGITS = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
QWEN = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


@dataclass(frozen=True)
class Prepared:
    """Pictures as a family's own processor prepares them.

    Attributes:
        pixels: (3, height, width) each.
        n_visual: Visual tokens each.
        inputs: Keyword arguments of the stock class for these pictures as frames of a video.
    """

    pixels: Sequence[Tensor]
    n_visual: Sequence[int]
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """A family, tiny.

    Attributes:
        stock_class: Its class in transformers.
        config: Makes its configuration from the vocabulary's size and the ids of its special tokens.
        words: How its tokenizer splits text.
        special_tokens: All of them; the first ends a turn.
        template: Its chat template.
        preprocessing: Its ``preprocessor_config.json``.
        n_clear: Visual tokens of a clear frame of 1280 x 720 pixels.
        n_fuzzy: Visual tokens of a fuzzy one.
        prompt: The text that its processor makes of frames at these seconds, of so many visual tokens each, a question,
            and maybe an answer and a second question; written out here, and read by the tokenizer in one go.
        prepare: Runs its own processor.
        token_types: Token types for a stock model that wants them, by token; 0 stands for text.
    """

    stock_class: Any
    config: Callable[[int, Mapping[str, int]], Any]
    words: pre_tokenizers.PreTokenizer
    special_tokens: tuple[str, ...]
    template: str
    preprocessing: Mapping[str, Any]
    n_clear: int
    n_fuzzy: int
    prompt: Callable[[Sequence[float], Sequence[int], Sequence[str]], str]
    prepare: Callable[[Path, Sequence[Picture]], Prepared]
    token_types: Mapping[str, int] = field(default_factory=dict)


def fabricate(family: str, folder: Path, *, seed: int = 0, shard_bytes: int | None = None) -> Path:
    """Writes a checkpoint of random weights, in one file or in shards of at most ``shard_bytes``."""
    made = FAMILIES[family]
    tokenizer = tokenizer_of(family)
    special = {token: i for i, token in enumerate(made.special_tokens)}  # the trainer gives them the first ids
    config = made.config(tokenizer.get_vocab_size(), special)
    torch.manual_seed(seed)
    model = made.stock_class(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    model.generation_config.eos_token_id = special[made.special_tokens[0]]
    model.save_pretrained(folder, **({"max_shard_size": shard_bytes} if shard_bytes else {}))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(made.template, "utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(made.preprocessing), "utf-8")
    return folder


@cache
def tokenizer_of(family: str) -> Tokenizer:
    """Trains a byte-level BPE tokenizer of a few hundred tokens that splits text as the family's does."""
    made = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = made.words
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(made.special_tokens), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def llama_like(model_type: str, n_words: int, **more: Any) -> dict[str, Any]:
    """Returns the text part of a tiny configuration."""
    return {
        "model_type": model_type, "vocab_size": n_words, "hidden_size": 48, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "max_position_embeddings": 4096, "initializer_range": 0.2,  # far from the even attention of small weights
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0, **more,
    }  # fmt: skip


def clock(time_s: float) -> str:
    """Writes ``03:07`` for 187 seconds."""
    return f"{int(time_s // 60):02d}:{int(time_s % 60):02d}"


# --- SmolVLM2 ---


def _smolvlm_config(n_words: int, special: Mapping[str, int]) -> Any:
    return SmolVLMConfig(
        text_config=llama_like("llama", n_words),
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 4, "initializer_range": 0.2,
        },
        scale_factor=2,
        image_token_id=special["<image>"],
    )  # fmt: skip


def _smolvlm_prompt(times_s: Sequence[float], n_visual: Sequence[int], said: Sequence[str]) -> str:
    fake = "<fake_token_around_image>"
    frames = "".join(
        f"\nFrame from {clock(time_s)}:{fake}<global-img>{'<image>' * n}{fake}"
        for time_s, n in zip(times_s, n_visual, strict=True)
    )
    turns = [f"{words}<end_of_utterance>\n{'Assistant:' if i % 2 == 0 else 'User: '}" for i, words in enumerate(said)]
    return (
        "<|im_start|>System: You are a helpful language and vision assistant. You are able to understand the visual "
        "content that the user provides, and assist the user with a variety of tasks using natural language."
        "<end_of_utterance>\nUser: You are provided the following series of frames from a video."
        f"{frames}\n\n{''.join(turns)}"
    )


def _smolvlm_prepare(folder: Path, pictures: Sequence[Picture]) -> Prepared:
    processor: Any = SmolVLMImageProcessorPil.from_pretrained(folder)
    video_size = processor.video_sampling["video_size"]
    prepared = processor(list(pictures), size=video_size, do_image_splitting=False, return_tensors="pt")
    return Prepared(prepared["pixel_values"][0], [16] * len(pictures), {"pixel_values": prepared["pixel_values"]})


# --- LLaVA-OneVision ---


def _llava_config(n_words: int, special: Mapping[str, int]) -> Any:
    return LlavaOnevisionConfig(
        text_config=llama_like("qwen2", n_words),
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 28, "patch_size": 4, "vision_use_head": False,
        },
        image_token_index=special["<image>"],
        video_token_index=special["<video>"],
        image_grid_pinpoints=[[28, 28], [28, 56], [56, 28]],
    )  # fmt: skip


def _llava_prompt(times_s: Sequence[float], n_visual: Sequence[int], said: Sequence[str]) -> str:
    frames = "".join(
        f"\nFrame from {clock(time_s)}:{'<video>' * n}" for time_s, n in zip(times_s, n_visual, strict=True)
    )
    turns = [
        f"\n{words}<|im_end|><|im_start|>assistant\n" if i % 2 == 0 else f"{words}<|im_end|><|im_start|>user "
        for i, words in enumerate(said)
    ]
    opening = "<|im_start|>system \nYou are a helpful assistant.<|im_end|><|im_start|>user"
    return f"{opening}{frames}<video>{''.join(turns)}"  # the last one is the line break that ends a video


def _llava_prepare(folder: Path, pictures: Sequence[Picture]) -> Prepared:
    processor: Any = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    whole = [processor(picture, return_tensors="pt")["pixel_values"][0, 0] for picture in pictures]  # parts left out
    return Prepared(whole, [16] * len(pictures), {"pixel_values_videos": torch.stack(whole)[None]})


# --- Qwen2.5-VL and Qwen3-VL ---

_QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN_SPECIAL = (
    "<|im_end|>", "<|im_start|>", "<|endoftext|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip


def _qwen_config(kind: Any, n_words: int, special: Mapping[str, int], vision: dict[str, Any], **rope: Any) -> Any:
    name = kind.model_type
    sizes = {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "initializer_range": 0.2}
    text = {"hidden_size": 64, "head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **rope}}
    return kind(
        text_config=llama_like(f"{name}_text", n_words, **text),
        vision_config={"model_type": f"{name}_vision", "out_hidden_size": 64, **sizes, **vision},
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
    )


def _qwen2_5_config(n_words: int, special: Mapping[str, int]) -> Any:
    tower = {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
    return _qwen_config(Qwen2_5_VLConfig, n_words, special, tower, mrope_section=[2, 3, 3])


def _qwen3_config(n_words: int, special: Mapping[str, int]) -> Any:
    tower = {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]}
    return _qwen_config(Qwen3VLConfig, n_words, special, tower, mrope_section=[3, 3, 2], mrope_interleaved=True)


def _qwen_prompt(pad: str) -> Callable[[Sequence[float], Sequence[int], Sequence[str]], str]:
    def prompt(times_s: Sequence[float], n_visual: Sequence[int], said: Sequence[str]) -> str:
        frames = "".join(
            f"<{time_s:.1f} seconds><|vision_start|>{pad * n}<|vision_end|>"
            for time_s, n in zip(times_s, n_visual, strict=True)
        )
        roles = [("user", "assistant")[i % 2] for i in range(len(said) + 1)]
        turns = [f"{words}<|im_end|>\n<|im_start|>{role}\n" for words, role in zip(said, roles[1:], strict=True)]
        opening = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        return f"{opening}{frames}{''.join(turns)}"

    return prompt


def _qwen_prepare(pixels_name: str, grid_name: str) -> Callable[[Path, Sequence[Picture]], Prepared]:
    def prepare(folder: Path, pictures: Sequence[Picture]) -> Prepared:
        processor: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
        prepared = processor(list(pictures), return_tensors="pt")
        grids = prepared["image_grid_thw"]
        patches = prepared["pixel_values"].split([int(grid.prod()) for grid in grids])
        pixels = [_whole(own, grid, processor.patch_size) for own, grid in zip(patches, grids, strict=True)]
        inputs = {pixels_name: prepared["pixel_values"], grid_name: grids}
        return Prepared(pixels, [int(grid.prod()) // 4 for grid in grids], inputs)

    return prepare


def _whole(patches: Tensor, grid: Tensor, patch: int) -> Tensor:
    """Puts together the picture (3, height, width) that a processor cut into patches, four a visual token."""
    rows, columns = (int(n) // 2 for n in grid[1:])
    parts = patches.reshape(rows, columns, 2, 2, 3, 2, patch, patch)[..., 0, :, :]  # rows, columns, 2, 2, 3, h, w
    return parts.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * 2 * patch, columns * 2 * patch)


FAMILIES: dict[str, Family] = {
    "smolvlm": Family(
        stock_class=SmolVLMForConditionalGeneration,
        config=_smolvlm_config,
        words=GPT2_DIGITS,
        special_tokens=(
            "<end_of_utterance>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>",
        ),
        template=(
            "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
            "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
            "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
            "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
            "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
        ),
        preprocessing={
            "image_processor_type": "SmolVLMImageProcessor", "do_convert_rgb": True, "do_image_splitting": True,
            "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True, "resample": 1,
            "rescale_factor": 1 / 255, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 32},
            "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 32}},
        },
        n_clear=16,
        n_fuzzy=4,
        prompt=_smolvlm_prompt,
        prepare=_smolvlm_prepare,
    ),
    "llava_onevision": Family(
        stock_class=LlavaOnevisionForConditionalGeneration,
        config=_llava_config,
        words=QWEN,
        special_tokens=("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<image>", "<video>"),
        template=(
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
            "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}"
            "{% endfor %}{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}"
            "{{ '<video>' }}{% endfor %}{% if message['role'] != 'assistant' %}"
            "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
            "{{ '\n' + content['text'] }}{% endfor %}{% else %}"
            "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
            "{% generation %}{{ '\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}"
            "{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        ),
        preprocessing={
            "image_processor_type": "LlavaOnevisionImageProcessor", "do_convert_rgb": True, "do_normalize": True,
            "do_pad": True, "do_rescale": True, "do_resize": True, "resample": 3, "rescale_factor": 1 / 255,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 28, "width": 28},
            "image_grid_pinpoints": [[28, 28], [28, 56], [56, 28]],
        },
        n_clear=16,
        n_fuzzy=4,
        prompt=_llava_prompt,
        prepare=_llava_prepare,
    ),
    "qwen2_5_vl": Family(  # frames as pictures: as a video, the stock model would not let them have shapes of their own
        stock_class=Qwen2_5_VLForConditionalGeneration,
        config=_qwen2_5_config,
        words=QWEN,
        special_tokens=_QWEN_SPECIAL,
        template=_QWEN_TEMPLATE,
        preprocessing={
            "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 12845056,
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
        n_clear=252,
        n_fuzzy=66,
        prompt=_qwen_prompt("<|image_pad|>"),
        prepare=_qwen_prepare("pixel_values", "image_grid_thw"),
        token_types={"<|image_pad|>": 1},
    ),
    "qwen3_vl": Family(
        stock_class=Qwen3VLForConditionalGeneration,
        config=_qwen3_config,
        words=QWEN,
        special_tokens=_QWEN_SPECIAL,
        template=_QWEN_TEMPLATE,
        preprocessing={
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "size": {"longest_edge": 16777216, "shortest_edge": 4096}, "patch_size": 16, "temporal_patch_size": 2,
            "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        },
        n_clear=252,
        n_fuzzy=66,
        prompt=_qwen_prompt("<|video_pad|>"),
        prepare=_qwen_prepare("pixel_values_videos", "video_grid_thw"),
        token_types={"<|video_pad|>": 2},
    ),
}  # fmt: skip
