"""Turns pictures into pixels by a checkpoint's own settings: sizes, filter, mean and deviation.

Pillow resizes, because the families' own image processors use it: its filters widen when they shrink, which OpenCV's
do not, and PyTorch lacks Lanczos, which some checkpoints want.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from streamvlm.errors import ModelError
from streamvlm.frame import Picture

_SOURCES = (
    ("video_preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("preprocessor_config.json", None),
    ("processor_config.json", "image_processor"),
)


def read_pixel_settings(folder: Path) -> dict[str, Any]:
    """Reads the checkpoint's settings for frames of a video, or those for pictures if it has none for videos.

    Raises:
        ModelError: If there are none, or they cannot be read.
    """
    for name, part in _SOURCES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = json.loads(path.read_text("utf-8"))
            found: dict[str, Any] | None = settings.get(part) if part else settings
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{path} is damaged ({error}); get it again.") from error
        if found:
            return found
    raise ModelError(f"The checkpoint in {folder} has no preprocessor_config.json; get it from where the weights are.")


def resize(picture: Picture, size: tuple[int, int], resample: int) -> Picture:
    """Resizes to (height, width) with one of Pillow's filters, by the number that settings files give it."""
    height, width = size
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling(resample)))


def normalise(pictures: Sequence[Picture], settings: dict[str, Any], device: torch.device) -> Tensor:
    """Stacks pictures of one size to (T, 3, height, width) float32, normalised by the settings' mean and deviation."""
    pixels = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float()
    mean, deviation = (
        torch.tensor(settings[key], device=device, dtype=torch.float32).view(-1, 1, 1)
        for key in ("image_mean", "image_std")
    )
    scale = float(settings.get("rescale_factor", 1 / 255))
    return (pixels * scale - mean) / deviation
