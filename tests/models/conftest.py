"""Tiny checkpoints of every real family."""

from __future__ import annotations

import pytest
import torch
from fabricate import FAMILIES, fabricate
from pairs import Pair

from streamvlm.models.registry import load_model


@pytest.fixture(scope="session", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, device: str) -> Pair:
    family = str(request.param)
    folder = fabricate(family, tmp_path_factory.mktemp(family))
    made = FAMILIES[family]
    stock = made.stock_class.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    return Pair(family, folder, made, load_model(str(folder), device=device, dtype="float32"), stock)
