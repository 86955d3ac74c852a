"""What a stream's frames and questions attend to: sinks, remembered blocks, and the window of the newest blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import torch

from streamvlm.archive.archive import Archive
from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import Addition
from streamvlm.gate.gate import Decision
from streamvlm.memory.block import KVBlock
from streamvlm.memory.hierarchy import BlockMemory
from streamvlm.models.base import FrameTokens
from streamvlm.policies.base import MemoryPolicy, PolicySettings
from streamvlm.policies.registry import find_policy
from streamvlm.retrieval.attention_mass import IndexRows
from streamvlm.session.config import SessionConfig
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Reading, Work


class StreamMemory:
    """The blocks of a stream, in their tiers and in the policy's index, and contexts made of them.

    Args:
        runner: Runs the model that made them.
        config: Budgets, the window's length and the policy.
        archive: Where blocks are kept on disk; what it holds is remembered from the start.

    Attributes:
        runner: Runs the model.
        config: The session's settings.
        blocks: The tiers.
        policy: Judges frames, indexes blocks, and chooses those that a question gets.
        window: Ids of the newest blocks, which every chunk and every question attends to.
    """

    def __init__(self, runner: ModelRunner, config: SessionConfig, archive: Archive | None) -> None:
        self.runner, self.config = runner, config
        self.policy = _policy(runner, config)
        self._rows: IndexRows | None = None
        if archive is not None:
            # What lies beside the payloads is the same whatever the policy, so that any policy opens any folder.
            self._rows = IndexRows(runner.heads, runner.decoder.n_query_heads, runner.model.layout)
            self.policy.index.reload(archive.store)
        self.blocks = BlockMemory(
            runner.model.layout,
            device=runner.model.device,
            device_budget_bytes=config.device_budget_bytes,
            host_budget_bytes=config.host_budget_bytes,
            on_forget=self.policy.index.forget,
            disk=archive.writer if archive is not None else None,
        )
        newest = self.blocks.table.snapshot()[-config.window_blocks :]
        self.window: deque[int] = deque((block.id for block in newest), maxlen=config.window_blocks)
        self._pin_window()

    def remember(self, encoded: KeyValues, decision: Decision) -> KVBlock:
        """Makes a block of a kept frame; raises ``MemoryBudgetError`` if the window leaves no room for it."""
        block = self.blocks.append(
            encoded.payload,
            start_s=decision.time_s,
            fidelity=decision.fidelity,
            score=decision.score,
            positions=encoded.positions,
            rows=self._rows.of(encoded.payload) if self._rows is not None else None,
        )
        self.policy.index.add(block, encoded.payload)
        self.window.append(block.id)
        self._pin_window()
        return block

    def encode(self, frames: Sequence[FrameTokens]) -> Work[list[KeyValues]]:
        """Prefills frames behind sinks and window, in one pass; returns the keys and values of each."""
        if not frames:
            return []
        tokens = FrameTokens.join(frames)
        context = self.context(self.read(self.window), len(tokens))
        added = Addition(tokens.embeddings, context, positions=tokens.positions, deepstack=tokens.deepstack)
        (read,) = yield Reading([added])
        payloads = torch.split(read.payload, [len(frame) for frame in frames], dim=-2)
        return [KeyValues(p, positions=frame.positions) for p, frame in zip(payloads, frames, strict=True)]

    def read(self, ids: Sequence[int]) -> list[KeyValues]:
        """Returns what can still be read of these blocks; what is damaged is left out and forgotten."""
        return [KeyValues(payload, block.id, block.positions) for block, payload in self.blocks.read(ids)]

    def context(self, kept: Sequence[KeyValues], room: int) -> Context:
        """Returns a context of the sinks and these, with room for so many tokens more."""
        return self.runner.decoder.context_of([KeyValues(self.runner.sinks), *kept], room)

    def _pin_window(self) -> None:
        if self.window:
            self.blocks.table.window_start = self.window[0]


def _policy(runner: ModelRunner, config: SessionConfig) -> MemoryPolicy:
    settings = PolicySettings(
        gate=replace(config.gate, noise_floor=runner.noise_floor),
        top_k=config.top_k,
        coverage=config.coverage,
        heads=runner.heads,
        n_query_heads=runner.decoder.n_query_heads,
        layout=runner.model.layout,
    )
    return find_policy(config.policy)(settings)
