"""The life of a question: what it may see, probe, score, fetch, answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import Generation
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.memory.block_table import Snapshot
from streamvlm.policies.base import Candidates
from streamvlm.retrieval.evidence import Evidence, rank_evidence
from streamvlm.session.answer import Answer, Timings, TokenCounts
from streamvlm.session.dialogue import Dialogue
from streamvlm.session.steps import Inspection, Reading, Work
from streamvlm.session.stream_memory import StreamMemory
from streamvlm.session.watching import SeenFrame, Watcher

NEWEST_ID = -1
"""Stands for the newest frame in a context: it is shown clear to the question and then dropped."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and how it is to be answered.

    Attributes:
        text: In plain words.
        out_of_band: Neither see the dialogue so far nor become part of it.
        max_tokens: Most tokens of the answer, if fewer than the session allows.
        temperature: 0 takes the likeliest words.
    """

    text: str
    out_of_band: bool = False
    max_tokens: int | None = None
    temperature: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what cannot be answered.

        Raises:
            UsageError: If the question is empty, the tokens are none or the temperature is negative.
        """
        if not self.text.strip():
            raise UsageError("The question is empty; ask something.")
        if any("\ud800" <= letter <= "\udfff" for letter in self.text):  # JSON may hold such, tokenizers take none
            raise UsageError("The question holds half of a letter (a lone surrogate); write that letter whole.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"An answer of {self.max_tokens} tokens says nothing; allow at least 1.")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"The temperature is {self.temperature}; give a number of at least 0.")


@dataclass(frozen=True, slots=True)
class QuestionScope:
    """What a question may see, fixed when it is asked: frames that are watched afterwards change nothing.

    Attributes:
        asked_at_s: It sees no later frame.
        blocks: The blocks up to then, oldest first.
        ids: Their ids.
        newest: The newest frame up to then, unless it was kept clear and so is among the blocks.
    """

    asked_at_s: float
    blocks: Snapshot
    ids: NDArray[np.int64]
    newest: SeenFrame | None

    @classmethod
    def of(cls, watcher: Watcher, memory: StreamMemory, at_s: float | None = None) -> QuestionScope:
        """Returns what a question asked now may see, or one that looks back from ``at_s``.

        Raises:
            UsageError: If nothing has been seen yet, or ``at_s`` is before the stream.
        """
        newest_s, newest = watcher.time_s, watcher.newest
        if newest_s is None:
            raise UsageError("Nothing has been seen yet; observe some frames before asking.")
        if at_s is not None and at_s < 0:
            raise UsageError(f"The stream begins at 0 s and {at_s:g} s is before it; ask for a later time.")
        asked_at_s = newest_s if at_s is None else min(at_s, newest_s)
        if newest is not None and (newest.decision.fidelity is Fidelity.CLEAR or asked_at_s < newest.decision.time_s):
            newest = None
        blocks = memory.blocks.table.snapshot(asked_at_s)
        return cls(asked_at_s, blocks, memory.blocks.table.ids()[: len(blocks)], newest)


class QuestionWork:
    """A question that is being answered: ``steps`` does the work.

    Frames may be watched meanwhile, and other questions answered.

    Args:
        memory: What is remembered of the stream.
        dialogue: What has been said about it.
        question: What is asked.
        scope: What the question may see.
        began_s: When it was asked (``time.perf_counter``).

    Attributes:
        pieces: Text of the answer that nobody has taken yet; it is taken by removing it.
    """

    def __init__(
        self, memory: StreamMemory, dialogue: Dialogue, question: Question, scope: QuestionScope, began_s: float
    ) -> None:
        self._memory, self._dialogue = memory, dialogue
        self._runner, self._config = memory.runner, memory.config
        self._question, self._scope = question, scope
        self._began_s, self._ttft_s = began_s, 0.0
        self._queued_s = time.perf_counter() - began_s
        self._memory_then = memory.blocks.stats()
        self._ids: list[int] = []
        self._text = ""
        self._n_question = self._n_context = 0
        self._chosen: list[KVBlock] = []
        self._window: Snapshot = ()
        self._generation: Generation | None = None
        self.pieces: list[str] = []

    @property
    def is_prepared(self) -> bool:
        """Whether all that the answer needs has been found and fetched."""
        return self._generation is not None

    def steps(self) -> Work[Answer]:
        """Finds what the question wants and answers it.

        Raises:
            UsageError: If the question is too long.
        """
        generation = self._generation = yield from self._prepare()
        while generation.addition is not None:
            (read,) = yield Reading([generation.addition])
            token = generation.take(read)
            if token is not None:
                self._write(token)
        if not self._question.out_of_band:
            self._dialogue.add(generation.payload, self._question.text, self._text, self._scope.asked_at_s)
        return self.answer()

    def answer(self, *, cancelled: bool = False) -> Answer:
        """Returns the answer as far as it has come."""
        total_s = time.perf_counter() - self._began_s
        return Answer(
            question=self._question.text,
            text=self._text,
            asked_at_s=self._scope.asked_at_s,
            evidence=tuple(self._evidence()),
            retrieved=tuple(block.id for block in self._chosen),
            timings=Timings(self._ttft_s or total_s, total_s, self._queued_s),
            tokens=TokenCounts(self._n_question, len(self._ids), self._n_context),
            memory=self._memory_then,
            model=self._runner.model.name,
            cancelled=cancelled,
            is_cut=self._generation is not None and self._generation.is_cut,
        )

    def _prepare(self) -> Work[Generation]:
        config, memory, turns = self._config, self._memory, self._turns()
        tokens = question_tokens(memory, self._question, follows_up=bool(turns))
        most_tokens = min(self._question.max_tokens or config.max_answer_tokens, config.max_answer_tokens)
        room = len(tokens) + most_tokens
        self._window = self._scope.blocks[-config.window_blocks :]
        newest = yield from self._newest()
        near = [*memory.read([block.id for block in self._window]), *newest, *turns]
        context = memory.context(near, room)
        self._chosen = yield from self._retrieve(tokens, context)
        if self._chosen:
            context = memory.context([*memory.read([block.id for block in self._chosen]), *near], room)
        self._n_question, self._n_context = len(tokens), context.n_tokens
        return self._runner.decoder.generate(
            tokens,
            context,
            max_tokens=most_tokens,
            stop_ids=self._runner.model.stop_ids,
            heads=self._runner.heads,
            temperature=self._question.temperature,
        )

    def _newest(self) -> Work[list[KeyValues]]:
        """Encodes the newest frame clear, for this question alone."""
        if (newest := self._scope.newest) is None:
            return []
        tokens = self._runner.model.frame_tokens(newest.sight, newest.decision.time_s, Fidelity.CLEAR)
        (encoded,) = yield from self._memory.encode([tokens])
        return [encoded._replace(block_id=NEWEST_ID)]

    def _turns(self) -> list[KeyValues]:
        return [] if self._question.out_of_band else [KeyValues(payload) for payload in self._dialogue.payloads]

    def _retrieve(self, tokens: Tensor, near: Context) -> Work[list[KVBlock]]:
        """Returns the blocks older than the window that the policy chooses for the question."""
        scope, policy = self._scope, self._memory.policy
        n_older = len(scope.blocks) - self._config.window_blocks
        if n_older <= 0:
            return []
        queries = (yield Inspection(tokens, near, policy.layers)) if policy.layers else {}
        candidates = self._candidates(n_older)
        chosen = policy.choose(candidates, queries) if candidates.n_older else []
        return [scope.blocks[place] for place in np.searchsorted(scope.ids, chosen) if place < n_older]

    def _candidates(self, n_older: int) -> Candidates:
        """Returns what is left of the blocks in scope: some may have been forgotten while the question waited."""
        blocks, ids = self._scope.blocks, self._scope.ids
        is_left = np.isin(ids, self._memory.blocks.table.ids(), assume_unique=True, kind="table")
        if not is_left.all():
            blocks = tuple(compress(blocks, is_left.tolist()))
        return Candidates(blocks, ids[is_left], int(is_left[:n_older].sum()))

    def _write(self, token: int) -> None:
        self._ids.append(token)
        self._ttft_s = self._ttft_s or time.perf_counter() - self._began_s
        text = self._runner.model.text(self._ids)
        if text != self._text:
            self.pieces.append(text[len(self._text) :])
        self._text = text

    def _evidence(self) -> list[Evidence]:
        if self._generation is None:
            return []
        masses, asked_at_s = self._generation.evidence, self._scope.asked_at_s
        blocks = [block for block in (*self._chosen, *self._window) if block.id in masses]
        if NEWEST_ID in masses:
            blocks.append(KVBlock(NEWEST_ID, asked_at_s, asked_at_s, Fidelity.CLEAR, 0.0, 0))
        return rank_evidence(blocks, [masses[block.id] for block in blocks])


def question_tokens(memory: StreamMemory, question: Question, *, follows_up: bool = False) -> Tensor:
    """Returns a question's embeddings (N, E); raises ``UsageError`` if they are more than the session allows."""
    tokens = memory.runner.model.question_tokens(question.text, follows_up=follows_up)
    if len(tokens) > (most := memory.config.max_question_tokens):
        raise UsageError(f"The question takes {len(tokens)} tokens and {most} are allowed; ask a shorter one.")
    return tokens
