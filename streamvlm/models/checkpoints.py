"""Lists the families, and the checkpoints on this machine; reads settings only and loads nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamvlm.errors import ModelError
from streamvlm.models.families.pocket import CHECKPOINT

FAMILIES: Mapping[str, str] = {
    "pocket": "streamvlm.models.families.pocket.adapter:Pocket",
    "smolvlm": "streamvlm.models.families.smolvlm:SmolVlm",
    "llava_onevision": "streamvlm.models.families.llava_onevision:LlavaOnevision",
    "qwen2_5_vl": "streamvlm.models.families.qwen2_5_vl:Qwen2_5Vl",
    "qwen3_vl": "streamvlm.models.families.qwen3_vl:Qwen3Vl",
}
"""Adapter of each family; ``family`` or ``model_type`` in config.json names it."""

CONFIGS = Path(__file__).with_name("configs")
"""Configurations of well-known checkpoints by name, without weights: for sizes and benchmarks."""

DAMAGED = "damaged"
"""The family of a checkpoint in the cache whose config.json cannot be read."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine."""

    name: str
    family: str
    folder: Path
    n_bytes: int


def find_checkpoints() -> list[Checkpoint]:
    """Returns the bundled checkpoint, and those of known families in this machine's Hugging Face cache."""
    hub = Path(
        os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface") / "hub"
    )
    found = {
        path.parent: path.parts[-4].removeprefix("models--").replace("--", "/")
        for path in hub.glob("models--*/snapshots/*/config.json")
    }
    checkpoints = []
    for folder, name in ({CHECKPOINT: "pocket"} | found).items():
        try:
            family = family_of(folder)
        except ModelError:
            family = DAMAGED  # perhaps an unfinished download of another program, which must not hide the others
        if family in (*FAMILIES, DAMAGED):
            n_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            checkpoints.append(Checkpoint(name, family, folder, n_bytes))
    return checkpoints


def family_of(folder: Path) -> str:
    """Returns the family that a checkpoint's config.json names.

    Raises:
        ModelError: If the file cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return str(config.get("family") or config.get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read ({error}); get it again.") from error
