"""Fields of a chat request that are accepted at the values that change nothing, and refused at all others.

Clients send them to many servers, mostly at their defaults. A field that is in no table here is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamvlm_server.errors import UnsupportedError

_ALONE: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "echo": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
}
"""The values at which a field changes nothing."""

_SAMPLING: dict[str, tuple[object, ...]] = {"top_p": (1,), "top_k": (-1, 0), "min_p": (0,)}
"""The same, for fields that change nothing at temperature 0 either."""

_NEVER = (
    "audio", "web_search_options", "chat_template", "documents", "allowed_token_ids", "logits_processors",
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip
"""Fields that change an answer at any value but null."""


def check_neutral(fields: Mapping[str, Any], temperature: float) -> None:
    """Checks that fields change nothing.

    Args:
        fields: The fields of a request beside those of ``ChatRequest``.
        temperature: Temperature of the request.

    Raises:
        UnsupportedError: If a field would change the answer.
    """
    for name, value in fields.items():
        if value is None or _is_like_none(name, value):
            continue
        if name in _NEVER:
            raise UnsupportedError(f"{name} is not offered here; leave it out.", param=name)
        alone = _ALONE.get(name, _SAMPLING.get(name))
        if alone is None or value in alone or (name in _SAMPLING and temperature == 0):
            continue
        taken = " or ".join(json.dumps(one) for one in alone) + (" or at temperature 0" if name in _SAMPLING else "")
        raise UnsupportedError(f"{name} is taken here only at {taken}, where it changes nothing.", param=name)


def _is_like_none(name: str, value: object) -> bool:
    """Whether a value means the same as the field's neutral one, written otherwise."""
    if not isinstance(value, dict):
        return False
    if name == "response_format":
        return value.get("type") == "text"
    return name == "logit_bias" and not any(value.values())
