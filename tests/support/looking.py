"""What a source shows, and how far it is from what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamvlm.frame import Picture
from streamvlm.ingest.source import open_source


def first_picture(path: Path) -> Picture:
    """What a file shows first."""
    with open_source(str(path)) as source:
        return next(source).picture


def apart(one: Picture, other: Picture) -> float:
    """Mean difference of two pictures of one size, in steps of 256."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())
