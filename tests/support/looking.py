"""The first picture of a source, and the difference of two pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamvlm.frame import Picture
from streamvlm.ingest.source import open_source


def first_picture(path: Path) -> Picture:
    """Returns the first picture of a file."""
    with open_source(str(path)) as source:
        return next(source).picture


def apart(one: Picture, other: Picture) -> float:
    """Returns the mean difference of two pictures of one size, in steps of 256."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())
