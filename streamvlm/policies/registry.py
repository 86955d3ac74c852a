"""Which policies there are: known by name, with nothing loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from streamvlm.errors import UsageError

if TYPE_CHECKING:
    from streamvlm.policies.base import MemoryPolicy

POLICIES: dict[str, str] = {
    "streamvlm": "streamvlm.policies.streamvlm:StreamVlmPolicy",
    "mean-key": "streamvlm.policies.mean_key:MeanKeyPolicy",
    "recent": "streamvlm.policies.recent:RecentPolicy",
    "uniform": "streamvlm.policies.uniform:UniformPolicy",
    "everything": "streamvlm.policies.everything:EverythingPolicy",
    "random": "streamvlm.policies.random:RandomPolicy",
    "curvestream-paper": "streamvlm.policies.curvestream_paper:CurveStreamPaperPolicy",
}
"""Class of each policy."""

DEFAULT_POLICY = "streamvlm"


def check_policy(name: str) -> str:
    """Returns the name of a policy that there is.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in POLICIES:
        raise UsageError(f"There is no policy {name!r}; choose from {', '.join(POLICIES)}.")
    return name


def find_policy(name: str) -> type[MemoryPolicy]:
    """Returns the class of a policy; raises like ``check_policy``."""
    module, policy = POLICIES[check_policy(name)].split(":")
    found: type[MemoryPolicy] = getattr(importlib.import_module(module), policy)
    return found
