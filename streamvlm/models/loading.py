"""Loads a stock Hugging Face model from a folder: safetensors only, no code of the checkpoint's own, all or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from streamvlm.errors import ModelError
from streamvlm.memory.block import BlockLayout
from streamvlm.models.weights import read_weights

_CGROUP = Path("/sys/fs/cgroup")


def read_config(folder: Path) -> Any:
    """Reads a checkpoint's configuration as its transformers class.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a wrong value may fail anywhere in the configuration's class
        raise ModelError(
            f"{folder / 'config.json'} is not what it should be ({_line(error)}); get it again."
        ) from error


def layout_of(config: Any, dtype: torch.dtype) -> BlockLayout:
    """Returns the layout of a model's keys and values, from its configuration alone."""
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return BlockLayout(text.num_hidden_layers, text.num_key_value_heads, head_dim, dtype)


def load_stock(stock: Any, folder: Path, *, device: torch.device, dtype: torch.dtype) -> Any:
    """Loads an unmodified ``...ForConditionalGeneration`` for inference.

    Args:
        stock: The class.
        folder: With ``config.json`` and safetensors.
        device: Where to load it.
        dtype: Of all its weights.

    Raises:
        ModelError: If files are missing or damaged, the weights are not all of the model, or memory is too small.
    """
    config = read_config(folder)
    require_memory(read_weights(folder).n_parameters * dtype.itemsize, device, folder)
    try:
        model, report = stock.from_pretrained(
            folder, config=config, dtype=dtype, attn_implementation="sdpa",
            use_safetensors=True, local_files_only=True, output_loading_info=True,
        )  # fmt: skip
        missing = sorted(report["missing_keys"])
        if missing:  # transformers would initialise them at random
            raise ModelError(
                f"The checkpoint in {folder} lacks {len(missing)} of the model's weights, such as {missing[0]}; "
                "get it from where it was trained."
            )
        return model.to(device).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The model in {folder} does not fit into the memory of {device}; take a smaller one."
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"The weights in {folder} do not fit its config.json ({_line(error)}); get both from one place."
        ) from error


def require_memory(n_bytes: int, device: torch.device, name: object) -> None:
    """Refuses a model that is too large, before anything is read.

    Raises:
        ModelError: If fewer than ``n_bytes`` are free, in RAM or on the device.
    """
    free = {"RAM": free_ram_bytes()}
    if device.type == "cuda":
        free[f"memory of {device}"] = torch.cuda.mem_get_info(device)[0]
    for where, n_free in free.items():
        if n_bytes > n_free:
            raise ModelError(
                f"The model {name} takes {n_bytes / 1e9:.1f} GB and {n_free / 1e9:.1f} GB of {where} are free; "
                "take a smaller model, give --dtype bfloat16, or free some."
            )


def free_ram_bytes() -> int:
    """Returns the bytes of RAM that this process may still take: the machine's, within the limit of its cgroup."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()))
    return free


def stop_ids(folder: Path) -> set[int]:
    """Returns the ids that end an answer, from ``generation_config.json`` if there is one.

    Raises:
        ModelError: If it is damaged.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return set()
    try:
        ends = json.loads(path.read_text("utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}); get it again.") from error
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


def _line(error: BaseException) -> str:
    """Writes an error as one line."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
