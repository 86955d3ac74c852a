"""One stream with its gate, memory, retrieval and dialogue: observe frames, ask questions at any moment.

One thread owns a session. Its work is made of small steps (``streamvlm.session.steps``): a session alone takes them one
after another; an engine, which uses the session's parts, takes them together with those of other sessions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from streamvlm.archive.archive import Archive
from streamvlm.frame import Frame
from streamvlm.gate.gate import Decision, DecisionLog
from streamvlm.memory.block_table import Snapshot
from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.answer_stream import AnswerStream
from streamvlm.session.config import SessionConfig
from streamvlm.session.dialogue import Dialogue
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.question_work import Question, QuestionScope, QuestionWork, question_tokens
from streamvlm.session.ram_budget import RamBudget
from streamvlm.session.stream_memory import StreamMemory
from streamvlm.session.watching import Watcher


class Session:
    """Watches one stream and answers questions about it.

    Args:
        model: Shared between sessions; a session changes nothing in it.
        config: Budgets and settings.
        archive: Where the stream is kept on disk: what it holds is remembered, the dialogue too. The session does not
            close it: close it after the session.
        process: What all sessions of this process share; the session's host budget is taken from it until ``close``.
        runner: What runs the model for several sessions; by default one of its own.

    Attributes:
        config: Its settings.
        runner: Runs the model.
        archive: Where the stream is kept on disk; None if it is not.
        stream_memory: The blocks that are remembered.
        watcher: Watches the frames.
        dialogue: What has been said.
    """

    def __init__(
        self,
        model: VideoLanguageModel,
        config: SessionConfig | None = None,
        *,
        archive: Archive | None = None,
        process: RamBudget | None = None,
        runner: ModelRunner | None = None,
    ) -> None:
        self.config, self.archive, self._process = config or SessionConfig(), archive, process
        if process is not None:
            process.take(self.config.host_budget_bytes)
        self.runner = runner or ModelRunner(model)
        self.stream_memory = StreamMemory(self.runner, self.config, archive)
        self.watcher = Watcher(model, self.stream_memory, self.config.log_decisions, archive)
        most = self.config.max_dialogue_tokens
        self.dialogue = Dialogue(model, model.max_dialogue_tokens if most is None else most, archive)

    @property
    def time_s(self) -> float | None:
        """Stream time of the newest frame, if need be of an earlier process; None before the first."""
        return self.watcher.time_s

    @property
    def log(self) -> DecisionLog:
        """Every gate decision of this process, newest kept."""
        return self.watcher.log

    @property
    def memory(self) -> MemoryStats:
        """Counts of what is remembered now."""
        return self.stream_memory.blocks.stats()

    def blocks(self) -> Snapshot:
        """Returns all blocks remembered now, oldest first."""
        return self.stream_memory.blocks.table.snapshot()

    def close(self) -> None:
        """Leaves everything on disk, if there is an archive, and gives the session's share of the process back."""
        self.flush()
        if self._process is not None:
            self._process.give_back(self.config.host_budget_bytes)
            self._process = None

    def flush(self) -> None:
        """Returns once an archive, if there is one, has everything."""
        self.stream_memory.blocks.flush()

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
        chunks = _chunks(given, self.config.chunk_frames)
        return [seen.decision for chunk in chunks for seen in self.runner.run(self.watcher.watch(chunk))]

    def ask(
        self,
        question: str,
        *,
        at_s: float | None = None,
        out_of_band: bool = False,
        max_tokens: int | None = None,
        temperature: float = 0.0,
    ) -> AnswerStream:
        """Asks about what has been seen so far; probing and fetching are done when this returns.

        Args:
            question: In plain words; may refer to earlier answers of this session.
            at_s: Answer as of this earlier stream time; by default as of the newest frame.
            out_of_band: Neither see the dialogue so far nor become part of it.
            max_tokens: Most tokens of the answer, if fewer than the session allows.
            temperature: 0 takes the likeliest words.

        Returns:
            The answer under way.

        Raises:
            UsageError: If the question is empty or too long, or nothing has been seen by then.
        """
        began_s = time.perf_counter()
        asked = Question(question, out_of_band, max_tokens, temperature)
        scope = QuestionScope.of(self.watcher, self.stream_memory, at_s)
        work = QuestionWork(self.stream_memory, self.dialogue, asked, scope, began_s)
        return AnswerStream(self.runner, work)

    def check_question(self, question: str) -> None:
        """Raises ``UsageError`` if a question is empty or too long to be asked."""
        question_tokens(self.stream_memory, Question(question))


def _chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while chunk := list(islice(iterator, size)):
        yield chunk
