"""What a stream's frames and questions attend to: sinks, remembered blocks, and the window of the newest blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch

from streamvlm.archive.archive import Archive
from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import Addition
from streamvlm.gate.gate import Decision
from streamvlm.memory.block import KVBlock
from streamvlm.memory.hierarchy import BlockMemory
from streamvlm.models.base import FrameTokens
from streamvlm.retrieval.attention_mass import AttentionMassScorer
from streamvlm.retrieval.scorer import BlockScorer
from streamvlm.session.config import SessionConfig
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Reading, Work


class StreamMemory:
    """The blocks of a stream, in their tiers and in the scorer's index, and contexts made of them.

    Args:
        runner: Runs the model that made them.
        config: Budgets and the window's length.
        scorer: How blocks are ranked for a question; by default the model's retrieval heads.
        archive: Where blocks are kept on disk; what it holds is remembered from the start.

    Attributes:
        runner: Runs the model.
        config: The session's settings.
        blocks: The tiers.
        scorer: Ranks them.
        window: Ids of the newest blocks, which every chunk and every question attends to.
    """

    def __init__(
        self, runner: ModelRunner, config: SessionConfig, scorer: BlockScorer | None, archive: Archive | None
    ) -> None:
        layout = runner.model.layout
        own_scorer = AttentionMassScorer(runner.heads, runner.decoder.n_query_heads, layout)
        self.scorer: BlockScorer = scorer or own_scorer
        self.runner, self.config = runner, config
        self._rows = own_scorer.rows if archive is not None else None
        for block, rows in archive.store.rows() if archive is not None else ():
            own_scorer.add_rows(block.id, rows)
        self.blocks = BlockMemory(
            layout,
            device=runner.model.device,
            device_budget_bytes=config.device_budget_bytes,
            host_budget_bytes=config.host_budget_bytes,
            on_forget=self.scorer.forget,
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
            rows=self._rows(encoded.payload) if self._rows is not None else None,
        )
        self.scorer.add(block, encoded.payload)
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
