"""The life of a question: what it may see, probe, score, fetch, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.decoder import Generation
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.memory.hierarchy import Snapshot
from streamvlm.retrieval.evidence import Evidence, rank_evidence
from streamvlm.retrieval.selection import select_blocks
from streamvlm.session.answer import Answer, Timings, TokenCounts
from streamvlm.session.config import SessionConfig
from streamvlm.session.dialogue import Dialogue
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Inspection, Reading, Work
from streamvlm.session.stream_memory import StreamMemory
from streamvlm.session.watching import SeenFrame, Watcher

NOW_ID = -1
"""Stands for the frame at question time in a context: it is shown clear to the question and then dropped."""


@dataclass(frozen=True, slots=True)
class QuestionScope:
    """What a question may see, fixed when it is asked: frames that are watched afterwards change nothing.

    Attributes:
        asked_at_s: It sees no later frame.
        seen: Lines of the blocks up to then, oldest first.
        ids: Their ids.
        now: The frame of that moment, unless it was kept clear and so is among the blocks.
    """

    asked_at_s: float
    seen: Snapshot
    ids: NDArray[np.int64]
    now: SeenFrame | None


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and how it is to be answered.

    Attributes:
        question: In plain words.
        out_of_band: Neither see the dialogue so far nor become part of it.
        max_tokens: Most tokens of the answer, if fewer than the session allows.
        temperature: 0 takes the likeliest words.
    """

    question: str
    out_of_band: bool = False
    max_tokens: int | None = None
    temperature: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be answered.

        Raises:
            UsageError: If the question is empty, the tokens are none or the temperature is negative.
        """
        if not self.question.strip():
            raise UsageError("The question is empty; ask something.")
        if any("\ud800" <= letter <= "\udfff" for letter in self.question):  # JSON may hold such, tokenizers take none
            raise UsageError("The question holds half of a letter (a lone surrogate); write that letter whole.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"An answer of {self.max_tokens} tokens says nothing; allow at least 1.")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"The temperature is {self.temperature}; give a number of at least 0.")


class Inquirer:
    """Answers questions about one stream.

    Args:
        runner: Of the model.
        config: Settings of the session.
        memory: What is remembered of the stream.
        watcher: Knows the newest frame.
        dialogue: What has been said.
    """

    def __init__(
        self, runner: ModelRunner, config: SessionConfig, memory: StreamMemory, watcher: Watcher, dialogue: Dialogue
    ) -> None:
        self.runner, self.config, self.memory, self.watcher, self.dialogue = runner, config, memory, watcher, dialogue

    def moment(self, at_s: float | None = None) -> QuestionScope:
        """What a question asked now may see.

        Raises:
            UsageError: If nothing has been seen yet, or ``at_s`` is before the stream.
        """
        newest_s, newest = self.watcher.time_s, self.watcher.newest
        if newest_s is None:
            raise UsageError("Nothing has been seen yet; observe some frames before asking.")
        if at_s is not None and at_s < 0:
            raise UsageError(f"The stream begins at 0 s and {at_s:g} s is before it; ask for a later time.")
        asked_at_s = newest_s if at_s is None else min(at_s, newest_s)
        if newest is not None and (newest.decision.fidelity is Fidelity.CLEAR or asked_at_s < newest.decision.time_s):
            newest = None
        seen = self.memory.blocks.snapshot(asked_at_s)
        return QuestionScope(asked_at_s, seen, self.memory.blocks.ids()[: len(seen)], newest)

    def tokens_of(self, question: str, *, follows_up: bool = False) -> Tensor:
        """Embeddings (N, E) of a question; raises ``UsageError`` if they are too many."""
        asked = self.runner.model.question_tokens(question, follows_up=follows_up)
        if len(asked) > (most := self.config.max_question_tokens):
            raise UsageError(f"The question takes {len(asked)} tokens and {most} are allowed; ask a shorter one.")
        return asked

    def inquire(
        self, asking: Question, moment: QuestionScope, tell: Callable[[str], None], began_s: float
    ) -> QuestionWork:
        """Begins to answer; ``tell`` is given the pieces of the answer's text as they come."""
        return QuestionWork(self, asking, moment, tell, began_s)


class QuestionWork:
    """A question on its way; ``work`` does it.

    Attributes:
        is_prepared: Whether all it rests on has been found and fetched.
    """

    def __init__(
        self, about: Inquirer, asking: Question, moment: QuestionScope, tell: Callable[[str], None], began_s: float
    ) -> None:
        self._about, self._asking, self._moment = about, asking, moment
        self._tell, self._began_s, self._ttft_s = tell, began_s, 0.0
        self._queued_s = time.perf_counter() - began_s
        self._memory_then = about.memory.blocks.stats()
        self._ids: list[int] = []
        self._text = ""
        self._n_question = self._n_context = 0
        self._chosen: list[KVBlock] = []
        self._window: Snapshot = ()
        self._decoded: Generation | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether all it rests on has been found and fetched."""
        return self._decoded is not None

    def work(self) -> Work[Answer]:
        """Finds what the question wants and answers it.

        Raises:
            UsageError: If the question is too long.
        """
        decoded = self._decoded = yield from self._prepare()
        while decoded.addition is not None:
            (read,) = yield Reading([decoded.addition])
            token = decoded.take(read)
            if token is not None:
                self._write(token)
        if not self._asking.out_of_band:
            asking = self._asking
            self._about.dialogue.add(decoded.payload, asking.question, self._text, self._moment.asked_at_s)
        return self.answer()

    def answer(self, *, cancelled: bool = False) -> Answer:
        """The answer as far as it has come."""
        total_s = time.perf_counter() - self._began_s
        return Answer(
            question=self._asking.question,
            text=self._text,
            asked_at_s=self._moment.asked_at_s,
            evidence=tuple(self._evidence()),
            retrieved=tuple(block.id for block in self._chosen),
            timings=Timings(self._ttft_s or total_s, total_s, self._queued_s),
            tokens=TokenCounts(self._n_question, len(self._ids), self._n_context),
            memory=self._memory_then,
            model=self._about.runner.model.name,
            cancelled=cancelled,
            is_cut=self._decoded is not None and self._decoded.is_cut,
        )

    def _prepare(self) -> Work[Generation]:
        config, memory, said = self._about.config, self._about.memory, self._said()
        asked = self._about.tokens_of(self._asking.question, follows_up=bool(said))
        most_tokens = min(self._asking.max_tokens or config.max_answer_tokens, config.max_answer_tokens)
        room = len(asked) + most_tokens
        self._window = self._moment.seen[-config.window_blocks :]
        now = yield from self._now()
        near = [*memory.read(block.id for block in self._window), *now, *said]
        context = memory.context(near, room)
        self._chosen = yield from self._retrieve(asked, context)
        if self._chosen:
            context = memory.context([*memory.read(block.id for block in self._chosen), *near], room)
        self._n_question, self._n_context = len(asked), context.n_tokens
        return self._about.runner.decoder.generate(
            asked,
            context,
            max_tokens=most_tokens,
            stop_ids=self._about.runner.model.stop_ids,
            heads=self._about.runner.heads,
            temperature=self._asking.temperature,
        )

    def _now(self) -> Work[list[KeyValues]]:
        """The frame of the moment, clear."""
        if (now := self._moment.now) is None:
            return []
        model = self._about.runner.model
        tokens = model.frame_tokens(now.sight, now.decision.time_s, Fidelity.CLEAR)
        (encoded,) = yield from self._about.watcher.encode([tokens])
        return [encoded._replace(block_id=NOW_ID)]

    def _said(self) -> list[KeyValues]:
        return [] if self._asking.out_of_band else [KeyValues(payload) for payload in self._about.dialogue.payloads]

    def _retrieve(self, asked: Tensor, near: Context) -> Work[list[KVBlock]]:
        """Blocks older than the window that the question wants; the window's own claim on it counts."""
        moment, config, memory = self._moment, self._about.config, self._about.memory
        n_older = len(moment.seen) - config.window_blocks
        if n_older <= 0:
            return []
        queries = yield Inspection(asked, near, memory.scorer.layers)
        # What was forgotten while the question waited can no longer be had.
        ids = moment.ids[np.isin(moment.ids, memory.blocks.ids(), assume_unique=True, kind="table")]
        chosen = select_blocks(memory.scorer.score(queries, ids), ids, config.top_k, config.coverage)
        return [moment.seen[place] for place in np.searchsorted(moment.ids, chosen) if place < n_older]

    def _write(self, token: int) -> None:
        self._ids.append(token)
        self._ttft_s = self._ttft_s or time.perf_counter() - self._began_s
        grown = self._about.runner.model.text(self._ids)
        if grown != self._text:
            self._tell(grown[len(self._text) :])
        self._text = grown

    def _evidence(self) -> list[Evidence]:
        if self._decoded is None:
            return []
        masses, asked_at_s = self._decoded.evidence, self._moment.asked_at_s
        lines = [line for line in (*self._chosen, *self._window) if line.id in masses]
        if NOW_ID in masses:
            lines.append(KVBlock(NOW_ID, asked_at_s, asked_at_s, Fidelity.CLEAR, 0.0, 0))
        return rank_evidence(lines, [masses[line.id] for line in lines])
