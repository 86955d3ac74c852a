"""Pocket's fuzzy fidelity: nine zones pooled into four quarters, weighted by how much each zone shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamvlm.models.families.pocket.attributes import GROUPS, NOTHING, SPAN

_QUARTERS = ((0, 1, 3, 4), (1, 2, 4, 5), (3, 4, 6, 7), (4, 5, 7, 8))
_NO_SHAPE = SPAN["shape"].start + GROUPS["shape"].index(NOTHING)
_EMPTY_WEIGHT = 0.02


def pool_zones(zones: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pools zone posteriors into quarters of the picture; a thing outweighs empty zones around it.

    Args:
        zones: (9, attributes) float32 posteriors, zones in reading order.

    Returns:
        (4, attributes) float32: top-left, top-right, bottom-left, bottom-right quarter.
    """
    weights = (1.0 - zones[:, _NO_SHAPE]).clip(0, 1) + _EMPTY_WEIGHT
    quarters = [np.average(zones[list(q)], axis=0, weights=weights[list(q)]) for q in _QUARTERS]
    return np.stack(quarters).astype(np.float32)
