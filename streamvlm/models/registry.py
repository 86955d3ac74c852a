"""Finds the adapter, the device and the dtype for a model's name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from streamvlm.errors import ModelError, UsageError
from streamvlm.models.base import Footprint, VideoLanguageModel
from streamvlm.models.checkpoints import CONFIGS, FAMILIES, family_of
from streamvlm.models.families.pocket import CHECKPOINT
from streamvlm.models.hub import SETTINGS, WEIGHTS, find_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str = "pocket", *, device: str = "auto", dtype: str = "auto") -> VideoLanguageModel:
    """Loads a model.

    Args:
        name: ``pocket``, a directory with a checkpoint of a known family, or a name on the Hugging Face hub.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: A name in ``DTYPES``, or ``auto``: bfloat16 on CUDA, float32 elsewhere and for pocket.

    Raises:
        ModelError: If there is no such model, or it cannot be loaded.
        UsageError: If the device or the dtype does not exist.
    """
    where = find_device(device)
    of = find_dtype(dtype, where)
    folder, family = find_checkpoint(name)
    if folder.parent == CONFIGS:
        raise ModelError(
            f"{name} is a configuration without weights; give a directory or the hub name of a checkpoint."
        )
    if folder != CHECKPOINT:
        folder = find_folder(name, WEIGHTS)
    if family == "pocket" and dtype == "auto":
        of = torch.float32  # too small to gain from bfloat16
    model: VideoLanguageModel = adapter_of(family)(folder, name=name, device=where, dtype=of)
    return model


def find_checkpoint(name: str) -> tuple[Path, str]:
    """Returns the folder and the family of a checkpoint; weights are not downloaded.

    Raises:
        ModelError: If there is no such model, or it is of no known family.
    """
    known = {path.name: path for path in CONFIGS.iterdir() if not Path(path.name).is_dir()}  # a directory comes first
    bundled = known | {"pocket": CHECKPOINT}
    folder = bundled[name] if name in bundled else find_folder(name, SETTINGS)
    if not (folder / "config.json").is_file():
        raise ModelError(f"There is no model {name!r}: the directory has no config.json; give one with a checkpoint.")
    family = family_of(folder)
    if family not in FAMILIES:
        raise ModelError(f"The checkpoint in {folder} is of the family {family!r}; supported: {', '.join(FAMILIES)}.")
    return folder, family


def footprint_of(name: str, dtype: str) -> Footprint:
    """Returns the size of a kept frame with a checkpoint; its weights need not be here.

    Raises:
        ModelError: If there is no such model, or its configuration cannot be read.
    """
    folder, family = find_checkpoint(name)
    footprint: Footprint = adapter_of(family).footprint(folder, DTYPES[dtype])
    return footprint


def adapter_of(family: str) -> Any:
    """Returns the adapter's class of a known family; imports its module only now, as some import much."""
    module, name = FAMILIES[family].split(":")
    return getattr(importlib.import_module(module), name)


def find_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Returns the torch dtype of a name; ``auto`` is bfloat16 on CUDA and float32 elsewhere.

    Raises:
        UsageError: If there is none.
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"There is no dtype {dtype!r}; give auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def find_device(device: str) -> torch.device:
    """Returns the torch device of a name.

    Raises:
        UsageError: If it does not exist on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"There is no device {device!r}; give auto, cpu, cuda or cuda:N.") from error
    if found.type not in ("cpu", "cuda") or (found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count()):
        raise UsageError(f"The device {device!r} is not on this machine; give cpu, or auto to take what is there.")
    return found
