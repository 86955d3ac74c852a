"""How listeners are told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


def call(listener: Callable[[T], object], told: T) -> None:
    """Tells a listener; one that raises against the rules is logged, and nobody else suffers for it."""
    try:
        listener(told)
    except Exception:
        logger.exception("a listener failed on %s", type(told).__name__)
