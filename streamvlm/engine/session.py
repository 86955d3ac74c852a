"""One stream with its gate, memory, retrieval and dialogue: observe frames, ask questions at any moment.

One thread owns a session. Its life of a frame: see, gate, encode behind sinks and window, remember. Its life of a
question: snapshot, probe, score, fetch, answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from streamvlm.decoding.context import Context, Kept
from streamvlm.decoding.decoder import Answering as DecodedAnswer
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.engine.answer import Answer, Answering, Timings, TokenCounts
from streamvlm.engine.archive import Archive
from streamvlm.engine.budget import ProcessBudget
from streamvlm.engine.calibration import heads_of
from streamvlm.engine.diary import Spoken, Watched
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity, Frame
from streamvlm.ingest.gate import CurvatureGate, Decision, DecisionLog, GateConfig
from streamvlm.memory.block import KVBlock, Positions
from streamvlm.memory.hierarchy import BlockMemory, MemoryStats, Snapshot
from streamvlm.models.base import FrameTokens, Sight, VideoLanguageModel
from streamvlm.retrieval.attention_mass import AttentionMassScorer
from streamvlm.retrieval.evidence import Evidence, rank_evidence
from streamvlm.retrieval.scorer import BlockScorer
from streamvlm.retrieval.selection import select_blocks

NOW_ID = -1
"""Stands for the frame at question time in a context: it is shown clear to the question and then dropped."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What one stream may use.

    Attributes:
        window_blocks: Newest blocks that every chunk and every question attends to.
        top_k: Most blocks to retrieve for a question.
        coverage: Share of the retrieval score that is enough; fewer than ``top_k`` blocks may reach it.
        chunk_frames: Most frames that one vision pass and one prefill take together.
        host_budget_bytes: RAM for blocks; the oldest unused are forgotten beyond it.
        device_budget_bytes: Device memory for a cache of blocks; a CPU has no use for it.
        max_question_tokens: A longer question is refused.
        max_answer_tokens: An answer is cut there.
        max_dialogue_tokens: Earlier questions and answers kept in view, the oldest dropped first but never the last;
            by default as many as the model was made for.
        log_decisions: Newest gate decisions kept for inspection.
        gate: The gate's settings; the model's noise floor takes the place of the one given here.
    """

    window_blocks: int = 8
    top_k: int = 8
    coverage: float = 0.5
    chunk_frames: int = 8
    host_budget_bytes: int = 512 << 20
    device_budget_bytes: int = 1 << 30
    max_question_tokens: int = 512
    max_answer_tokens: int = 128
    max_dialogue_tokens: int | None = None
    log_decisions: int = 100_000
    gate: GateConfig = field(default_factory=lambda: GateConfig(max_gap_s=10.0))

    def __post_init__(self) -> None:
        """Refuse what no stream can run with.

        Raises:
            UsageError: If a count is not positive or the coverage not in (0, 1].
        """
        counts = {"window": self.window_blocks, "top-k": self.top_k, "chunk": self.chunk_frames}
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"The {name} is {count}; give a whole number of at least 1.")
        if not 0 < self.coverage <= 1:
            raise UsageError(f"The coverage is {self.coverage}; give a share above 0 and at most 1.")


class Session:
    """Watches one stream and answers questions about it.

    Args:
        model: Shared between sessions; a session changes nothing in it.
        config: Budgets and settings.
        scorer: How blocks are ranked for a question; by default the model's retrieval heads.
        archive: Where the stream is kept on disk: what it holds is remembered, the dialogue too. Whoever opened it
            closes it, after the session.
        process: What all sessions of this process share; the session's host budget is taken from it until ``close``.

    Attributes:
        log: Every gate decision, newest kept.
        time_s: Stream time of the newest frame; None before the first.
    """

    def __init__(
        self,
        model: VideoLanguageModel,
        config: SessionConfig | None = None,
        *,
        scorer: BlockScorer | None = None,
        archive: Archive | None = None,
        process: ProcessBudget | None = None,
    ) -> None:
        if archive is not None and scorer is not None:
            raise ValueError("an archive keeps the retrieval heads' keys and no other scorer's")
        self._model, self._config, self._process = model, config or SessionConfig(), process
        if process is not None:
            process.take(self._config.host_budget_bytes)
        self._decoder = StreamDecoder(model.text_model, model.output_head)
        self._heads = heads_of(model)
        own_scorer = AttentionMassScorer(self._heads, self._decoder.n_query_heads, model.layout)
        self._scorer: BlockScorer = scorer or own_scorer
        self._archive, self._rows = archive, own_scorer.rows
        for block, rows in archive.store.rows() if archive is not None else ():
            own_scorer.add_rows(block.id, rows)
        self._memory = BlockMemory(
            model.layout,
            device=model.device,
            device_budget_bytes=self._config.device_budget_bytes,
            host_budget_bytes=self._config.host_budget_bytes,
            on_forget=self._scorer.forget,
            disk=archive.writer if archive is not None else None,
        )
        self._gate = CurvatureGate(replace(self._config.gate, noise_floor=model.noise_floor))
        self.log = DecisionLog(self._config.log_decisions)
        self._window: deque[int] = deque(maxlen=self._config.window_blocks)
        self._newest: tuple[Frame, Sight, Decision] | None = None
        self._dialogue: deque[Tensor] = deque()
        most = self._config.max_dialogue_tokens
        self._most_dialogue = model.max_dialogue_tokens if most is None else most
        self._time_s: float | None = None
        opening = model.opening_tokens()
        _, self._sinks = self._decoder.prefill(opening, self._decoder.new_context(len(opening)))
        if archive is not None:
            self._take_up(archive)

    @property
    def time_s(self) -> float | None:
        """Stream time of the newest frame, if need be of an earlier process; None before the first."""
        return self._time_s

    @property
    def memory(self) -> MemoryStats:
        """What is remembered now."""
        return self._memory.stats()

    def blocks(self) -> Snapshot:
        """Lines of all blocks remembered now, oldest first."""
        return self._memory.snapshot()

    def close(self) -> None:
        """Leaves everything on disk, if there is an archive, and gives the session's share of the process back."""
        self.flush()
        if self._process is not None:
            self._process.give_back(self._config.host_budget_bytes)
            self._process = None

    def flush(self) -> None:
        """Returns once an archive, if there is one, has everything."""
        self._memory.flush()

    def observe(self, frames: Frame | Iterable[Frame]) -> list[Decision]:
        """Watches the next frames, in order of stream time.

        Args:
            frames: One frame, or several to be seen and encoded in chunks.

        Returns:
            The gate's decision on each.

        Raises:
            ValueError: If stream time goes backwards.
            MemoryBudgetError: If the host budget cannot hold the window.
        """
        given = [frames] if isinstance(frames, Frame) else frames
        return [d for chunk in _chunks(given, self._config.chunk_frames) for d in self._observe_chunk(chunk)]

    def ask(self, question: str, *, at_s: float | None = None, out_of_band: bool = False) -> Answering:
        """Asks about what has been seen so far; probing and fetching are done when this returns.

        Args:
            question: In plain words; may refer to earlier answers of this session.
            at_s: Answer as of this earlier stream time; by default as of the newest frame.
            out_of_band: Neither see the dialogue so far nor become part of it.

        Returns:
            The answer under way.

        Raises:
            UsageError: If the question is empty or too long, or nothing has been seen by then.
        """
        began_s = time.perf_counter()
        asked = self._question(question)
        asked_at_s = self._asked_at(at_s)
        seen = self._memory.snapshot(asked_at_s)
        window, older = seen[-self._config.window_blocks :], seen[: -self._config.window_blocks]
        dialogue = [] if out_of_band else [Kept(payload) for payload in self._dialogue]
        tail = [*self._now(asked_at_s), *dialogue]
        near = self._assemble(window, tail, len(asked))
        chosen = self._retrieve(asked, near, seen, older)
        context = self._assemble((*chosen, *window), tail, len(asked)) if chosen else near
        seen_by_it = [block for block in (*chosen, *window) if block.id in self._memory]
        n_context = context.n_tokens
        decoded = self._decoder.generate(
            asked,
            context,
            max_tokens=self._config.max_answer_tokens,
            stop_ids=self._model.stop_ids,
            heads=self._heads,
        )
        stats = self.memory

        def finish(text: str, n_tokens: int, timings: Timings) -> Answer:
            if not out_of_band:
                self._remember_dialogue(decoded)
                self._note_dialogue(question, text, asked_at_s)
            return Answer(
                question=question,
                text=text,
                asked_at_s=asked_at_s,
                evidence=tuple(self._evidence(decoded, seen_by_it, asked_at_s)),
                retrieved=tuple(block.id for block in chosen),
                timings=timings,
                tokens=TokenCounts(len(asked), n_tokens, n_context),
                memory=stats,
                model=self._model.name,
            )

        return Answering(decoded, self._model.text, finish, began_s)

    # --- the life of a frame ---

    def _observe_chunk(self, chunk: Sequence[Frame]) -> list[Decision]:
        times = [self.time_s or 0.0, *(frame.time_s for frame in chunk)]
        if times != sorted(times):  # before anything of the chunk is taken in
            raise ValueError(f"stream time goes backwards in {times}")
        sights = self._model.see([frame.picture for frame in chunk])
        decisions = []
        kept: list[FrameTokens] = []
        for frame, sight in zip(chunk, sights, strict=True):
            decision = self._gate.decide(sight.feature, frame.time_s)
            self.log.append(decision)
            decisions.append(decision)
            self._newest, self._time_s = (frame, sight, decision), frame.time_s
            if decision.fidelity is not Fidelity.DISCARDED:
                kept.append(self._model.frame_tokens(sight, frame.time_s, decision.fidelity))
        encoded = iter(zip(self._encode(kept), kept, strict=True))
        for decision, frame in zip(decisions, chunk, strict=True):
            if decision.fidelity is Fidelity.DISCARDED:
                self._memory.extend(decision.time_s)
                self._note_frame(decision, None, frame)
            else:
                payload, tokens = next(encoded)
                self._note_frame(decision, self._remember(payload, tokens.positions, decision), frame)
        return decisions

    def _encode(self, frames: Sequence[FrameTokens]) -> Sequence[Tensor]:
        """Prefills the kept frames of a chunk in one pass: payloads (L, 2, K, N, D)."""
        if not frames:
            return []
        tokens = FrameTokens.join(frames)
        context = self._decoder.context_of([Kept(self._sinks), *self._fetch(self._window)], len(tokens))
        _, payload = self._decoder.prefill(
            tokens.embeddings, context, positions=tokens.positions, deepstack=tokens.deepstack
        )
        return torch.split(payload, [len(frame) for frame in frames], dim=-2)

    def _remember(self, payload: Tensor, positions: Positions | None, decision: Decision) -> KVBlock:
        block = self._memory.append(
            payload,
            start_s=decision.time_s,
            fidelity=decision.fidelity,
            score=decision.score,
            positions=positions,
            rows=self._rows(payload) if self._archive is not None else None,
        )
        self._scorer.add(block, payload)
        self._window.append(block.id)
        self._memory.pin_from(self._window[0])
        return block

    # --- the life of a question ---

    def _question(self, question: str) -> Tensor:
        if not question.strip():
            raise UsageError("The question is empty; ask something.")
        asked = self._model.question_tokens(question)
        if len(asked) > (most := self._config.max_question_tokens):
            raise UsageError(f"The question takes {len(asked)} tokens and {most} are allowed; ask a shorter one.")
        return asked

    def _asked_at(self, at_s: float | None) -> float:
        if self.time_s is None:
            raise UsageError("Nothing has been seen yet; observe some frames before asking.")
        if at_s is None:
            return self.time_s
        if at_s < 0:
            raise UsageError(f"The stream begins at 0 s and {at_s:g} s is before it; ask for a later time.")
        return min(at_s, self.time_s)

    def _now(self, asked_at_s: float) -> list[Kept]:
        """The frame at question time, clear, unless it is kept so already or the question looks further back."""
        if self._newest is None:
            return []  # taken up from disk, and nothing watched since
        frame, sight, decision = self._newest
        if decision.fidelity is Fidelity.CLEAR or asked_at_s < frame.time_s:
            return []
        tokens = self._model.frame_tokens(sight, frame.time_s, Fidelity.CLEAR)
        (payload,) = self._encode([tokens])
        return [Kept(payload, NOW_ID, tokens.positions)]

    def _assemble(self, blocks: Sequence[KVBlock], tail: Sequence[Kept], n_question: int) -> Context:
        kept = [Kept(self._sinks), *self._fetch([block.id for block in blocks]), *tail]
        return self._decoder.context_of(kept, n_question + self._config.max_answer_tokens + 1)

    def _retrieve(self, asked: Tensor, near: Context, seen: Snapshot, older: Snapshot) -> list[KVBlock]:
        """Blocks older than the window that the question wants; the window's own claim on it counts."""
        if not older:
            return []
        queries = self._decoder.probe(asked, near, self._scorer.layers)
        ids = self._memory.ids()[: len(seen)]
        chosen = select_blocks(self._scorer.score(queries, ids), ids, self._config.top_k, self._config.coverage)
        return [older[place] for place in np.searchsorted(ids, chosen) if place < len(older)]

    def _fetch(self, ids: Iterable[int]) -> list[Kept]:
        """What can still be read of these blocks: the memory has told of what is damaged."""
        readable = [block_id for block_id in ids if block_id in self._memory]
        try:
            payloads = self._memory.fetch(readable)
            return [Kept(p, i, self._memory.line(i).positions) for p, i in zip(payloads, readable, strict=True)]
        except KeyError:
            return self._fetch(readable)

    def _evidence(self, decoded: DecodedAnswer, blocks: Sequence[KVBlock], asked_at_s: float) -> list[Evidence]:
        masses = decoded.evidence
        lines = list(blocks)
        if NOW_ID in masses:
            lines.append(KVBlock(NOW_ID, asked_at_s, asked_at_s, Fidelity.CLEAR, 0.0, 0))
        return rank_evidence(lines, [masses[line.id] for line in lines])

    def _remember_dialogue(self, decoded: DecodedAnswer) -> None:
        self._dialogue.append(decoded.payload)
        self._trim_dialogue()

    def _trim_dialogue(self) -> None:
        while len(self._dialogue) > 1 and sum(p.shape[-2] for p in self._dialogue) > self._most_dialogue:
            self._dialogue.popleft()

    # --- across processes ---

    def _take_up(self, archive: Archive) -> None:
        """Goes on where the archive was left: clock, window and dialogue."""
        lines = self._memory.snapshot()
        clock_s = archive.diary.time_s()
        if lines or clock_s is not None:
            self._time_s = max([clock_s or 0.0, *(line.end_s for line in lines[-1:])])
        self._window.extend(line.id for line in lines[-self._config.window_blocks :])
        if self._window:
            self._memory.pin_from(self._window[0])
        layout = self._model.layout
        for spoken in archive.diary.dialogue(self._most_dialogue):
            data = torch.frombuffer(bytearray(spoken.payload), dtype=torch.uint8)
            payload = data.view(layout.dtype).view(layout.shape(spoken.n_tokens))
            self._dialogue.append(payload.to(self._model.device))
        self._trim_dialogue()

    def _note_frame(self, decision: Decision, block: KVBlock | None, frame: Frame) -> None:
        if self._archive is not None:
            kept = (block.id, frame.picture) if block is not None else (None, None)
            self._archive.writer.note(Watched(decision.time_s, str(decision.fidelity), decision.score, *kept))

    def _note_dialogue(self, question: str, text: str, asked_at_s: float) -> None:
        if self._archive is not None:
            payload = self._dialogue[-1].cpu().contiguous()
            data = payload.view(torch.uint8).numpy().tobytes()
            self._archive.writer.note(Spoken(asked_at_s, question, text, payload.shape[-2], data))


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while chunk := list(islice(iterator, size)):
        yield chunk
