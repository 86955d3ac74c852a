"""A policy that the package has not: it keeps every frame clear and gives a question the oldest blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.gate.gate import Decision, Reason
from streamvlm.memory.block import KVBlock
from streamvlm.memory.disk.store import DiskStore
from streamvlm.policies.base import Candidates, MemoryPolicy, PolicySettings
from streamvlm.retrieval.scorer import Ids as BlockIds


class Open:
    """A gate that lets everything through."""

    def decide(self, feature: Tensor, time_s: float) -> Decision:
        return Decision(time_s, Fidelity.CLEAR, Reason.COVERAGE, 0.0, 0.0, 0.0, 0.0, 0.0)


class Ids:
    """An index of ids alone."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    def add(self, block: KVBlock, payload: Tensor) -> None:
        self.held.add(block.id)

    def reload(self, store: DiskStore) -> None:
        self.held = {block.id for block in store.blocks()}

    def forget(self, ids: Iterable[int]) -> None:
        self.held.difference_update(ids)


class FirstSeenPolicy(MemoryPolicy):
    """Keeps all, and gives the first."""

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self.gate, self.index = Open(), Ids()

    def choose(self, candidates: Candidates, queries: Mapping[int, Tensor]) -> BlockIds:
        return candidates.ids[: candidates.n_older][: self.settings.top_k]
