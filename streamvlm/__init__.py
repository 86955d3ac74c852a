"""Ask questions of a video that never ends: ``from streamvlm import Session, load_model, open_source, connect``.

Each name loads its room when it is first used, so that ``import streamvlm`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamvlm.client import connect
    from streamvlm.ingest.source import open_source
    from streamvlm.models.registry import load_model
    from streamvlm.session.session import Session

__all__ = ["Session", "connect", "load_model", "open_source"]

_MODULES = {
    "Session": "streamvlm.session.session",
    "connect": "streamvlm.client",
    "load_model": "streamvlm.models.registry",
    "open_source": "streamvlm.ingest.source",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any name for an attribute

    def __getattr__(name: str) -> object:
        """Loads a public name from its module."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(_MODULES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
