"""Pixels: those of the family's own image processor, for every family, shape and filter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fabricate import FAMILIES, fabricate
from pairs import Pair

from streamvlm.models.pixels import read_pixel_settings
from streamvlm.models.registry import load_model

SHAPES = [(48, 64), (64, 48), (37, 91), (240, 320), (6, 9), (5, 300), (301, 7), (128, 128), (32, 32)]


def picture(shape: tuple[int, int], seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pixels_are_those_of_the_familys_own_processor(pair: Pair, shape: tuple[int, int]) -> None:
    ours: Any = pair.ours
    given = picture(shape)
    (expected,) = pair.made.prepare(pair.folder, [given]).pixels
    deviation = torch.tensor(ours.pixel_settings["image_std"]).view(3, 1, 1)
    apart = ((ours.pixels([given])[0].cpu() - expected) * deviation).abs().max()
    assert apart <= 1e-6, "in units of full scale; 1/255 would be one step of a pixel"


@pytest.mark.parametrize("resample", [0, 1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_checkpoints_own_filter_and_numbers_count(family: str, resample: int, tmp_path: Path, device: str) -> None:
    folder = fabricate(family, tmp_path)
    own = json.loads((folder / "preprocessor_config.json").read_text())
    own |= {"resample": resample, "image_mean": [0.48, 0.45, 0.4], "image_std": [0.27, 0.26, 0.28]}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    ours: Any = load_model(str(folder), device=device)
    given = [picture((90, 120)), picture((120, 90), 1)]
    for one, expected in zip(given, FAMILIES[family].prepare(folder, given).pixels, strict=True):
        torch.testing.assert_close(ours.pixels([one])[0].cpu(), expected, rtol=0, atol=1e-5)


def test_settings_for_videos_come_before_those_for_pictures(tmp_path: Path) -> None:
    for name, settings in {
        "preprocessor_config.json": {"size": 1},
        "processor_config.json": {"image_processor": {"size": 2}, "video_processor": {"size": 3}},
        "video_preprocessor_config.json": {"size": 4},
    }.items():
        (tmp_path / name).write_text(json.dumps(settings))
    sizes = []
    for name in ("video_preprocessor_config.json", "processor_config.json", "preprocessor_config.json"):
        sizes.append(read_pixel_settings(tmp_path)["size"])
        (tmp_path / name).unlink()
    assert sizes == [4, 3, 1]
