"""A live session as the worker sees it: frames that wait, questions that wait, and what is being done now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamvlm.engine.armed_questions import ArmedQuestions
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters
from streamvlm.engine.frame_queue import FrameQueue, WaitingFrame
from streamvlm.engine.notices import Notices, call
from streamvlm.engine.queued_question import Piece, QueuedQuestion
from streamvlm.errors import EngineError, StreamVlmError
from streamvlm.frame import Fidelity
from streamvlm.gate.gate import Decision
from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.session.answer import Answer, Timings, TokenCounts
from streamvlm.session.question_work import QuestionScope, QuestionWork
from streamvlm.session.session import Session
from streamvlm.session.standing_question import check
from streamvlm.session.steps import Task, Work
from streamvlm.session.watching import SeenFrame


@dataclass(frozen=True, slots=True)
class SessionProgress:
    """How far a stream has been watched, as of the last step that changed it; ``wait_s``: see ``LiveStats``."""

    time_s: float | None
    wait_s: float
    memory: MemoryStats
    n_clear: int = 0
    n_fuzzy: int = 0
    n_discarded: int = 0


class ScheduledSession:
    """A session, what waits for it, and what is being done for it.

    Args:
        session: Belongs to the worker.
        config: Bounds.
        changed: Guards ``queue``, ``questions`` and ``failure``, which others change as well; everything
            else is the worker's alone.
        counters: Count what is done.
        notices: Get what goes wrong.

    Attributes:
        queue: Frames that wait.
        questions: Those that have no answer yet, in the order in which they were asked.
        armed_questions: Its standing questions.
        failure: The reason why the stream cannot go on; None while it can.
        chunk: The frames being watched; None while there are none.
        progress: As of now, to be read by anybody.
        served: The turn at which it last began to watch, how many frames, and at which place.
        on_decision: Listener of the gate's decisions.
        notices: Go to the log and to the session's listener.
    """

    def __init__(
        self,
        session: Session,
        config: EngineConfig,
        changed: threading.Condition,
        counters: EngineCounters,
        notices: Notices,
    ) -> None:
        self.session, self.queue = session, FrameQueue(config.frame_queue, session.time_s)
        self.questions: list[QueuedQuestion] = []
        self.armed_questions = ArmedQuestions(changed, session.archive)
        self.failure: StreamVlmError | None = None
        self.chunk: Task[None] | None = None
        self.progress = SessionProgress(session.time_s, 0.0, session.memory)
        self.served = 0, 0, 0
        self.on_decision: Callable[[Decision], None] | None = None
        self.notices = notices
        self._changed, self._counters = changed, counters
        self._writer = None if session.archive is None else session.archive.writer
        self._chunk_frames = config.session.chunk_frames
        # A chunk that spans more than what may be lost would have to wait for the disk in its middle.
        self._chunk_s = config.archive.flush_every_s if config.home is not None else math.inf

    @property
    def has_work(self) -> bool:
        """Whether anything waits or is under way; to be asked under the lock."""
        return bool(self.questions or len(self.queue) or self.chunk)

    @property
    def lag_s(self) -> float:
        """Stream time by which the newest frame watched is behind the newest one offered."""
        return (self.queue.newest_s or 0.0) - (self.progress.time_s or 0.0)

    @property
    def tasks(self) -> list[Task[Any]]:
        """The steps of the questions that are being answered."""
        return [queued.task for queued in self._queued() if queued.task is not None]

    @property
    def is_urgent(self) -> bool:
        """Whether a question waits for frames of it."""
        return any(queued.scope is None for queued in self._queued())

    @property
    def n_ready(self) -> int:
        """Frames that the next chunk could take, at most."""
        with self._changed:
            if self.chunk is not None or not len(self.queue):
                return 0
            if not self.queue.holds(self._reach_s()):
                if self._writer is not None:
                    self._writer.hurry()  # of pictures far apart, none comes meanwhile that would have it write
                return 0
            return min(len(self.queue), self._chunk_frames)

    # --- before a step ---

    def begin_questions(self) -> None:
        """Ends what was cancelled, and begins every question whose frames are watched and whose turn it is.

        Questions in the dialogue are answered one after another, as each may refer to the answers before it.
        """
        is_talking = False
        for queued in self._queued():
            if queued.is_cancelled:
                self._cancel(queued)
                continue
            if queued.task is None:
                self._begin(queued, is_talking)
            is_talking = is_talking or not queued.question.out_of_band

    def begin_chunk(self, most: int) -> None:
        """Begins to watch up to so many frames; none that a waiting question must not see."""
        with self._changed:
            until_s = min((queued.asked_at_s for queued in self.questions if queued.scope is None), default=math.inf)
            taken = self.queue.take(most, min(until_s, self._reach_s()), self._chunk_s)
            if taken:  # still under the lock: there is no moment without work, in which the stream could be released
                self.chunk = Task(self._watch(taken))

    # --- after a step ---

    def deliver(self) -> None:
        """Hands over what the step has brought: pieces of answers, answers, and failures."""
        if self.chunk is not None and self.chunk.has_ended:
            ended, self.chunk = self.chunk, None
            try:
                ended.result()
            except Exception as error:
                self.fail(self._sentence(error, "this stream cannot go on"))
        for queued in self._queued():
            if queued.task is not None and queued.task.has_ended:
                self._end(queued, self._outcome(queued.task))
            else:
                self._tell_pieces(queued)

    def fail(self, failure: StreamVlmError) -> None:
        """Gives the stream up; the listeners of its questions and of its notices get the reason."""
        with self._changed:
            self.failure = failure
            self.queue.clear()
        if self.chunk is not None:
            self.chunk.close()
            self.chunk = None
        for queued in self._queued():
            if queued.task is not None:
                queued.task.close()
            self._end(queued, failure)
        self.notices.tell(str(failure))

    def add_counts(self, counters: EngineCounters, memory: MemoryStats) -> None:
        """Adds what the session itself counts: frames dropped, and what became of its blocks on disk."""
        counters.n_dropped += self.queue.n_dropped
        if (disk := memory.disk) is not None:
            counters.n_faded += disk.n_faded
            counters.n_dropped_blocks += disk.n_dropped
            counters.n_damaged += disk.n_damaged

    def _reach_s(self) -> float:
        """Returns the stream time up to which the disk keeps up: what lies beyond would hold the worker up."""
        return math.inf if self._writer is None else self._writer.reach_s

    def _queued(self) -> list[QueuedQuestion]:
        with self._changed:
            return list(self.questions)

    def _begin(self, queued: QueuedQuestion, is_talking: bool) -> None:
        session = self.session
        if queued.scope is None:
            with self._changed:
                if self.chunk is not None or self.queue.holds(queued.asked_at_s):
                    return
            try:
                scope = QuestionScope.of(session.watcher, session.stream_memory, queued.asked_at_s)
            except StreamVlmError as error:
                self._end(queued, error)
                return
            queued.scope = replace(scope, asked_at_s=queued.asked_at_s)
        if queued.question.out_of_band or not is_talking:
            memory, dialogue = session.stream_memory, session.dialogue
            queued.work = QuestionWork(memory, dialogue, queued.question, queued.scope, queued.began_s)
            queued.task = Task(queued.work.steps())

    def _watch(self, taken: Sequence[WaitingFrame]) -> Work[None]:
        seen = yield from self.session.watcher.watch([waiting.frame for waiting in taken])
        for one in seen:
            self._count(one.decision.fidelity)
            if (listener := self.on_decision) is not None:
                call(listener, one.decision)
        self._note_progress(time.monotonic() - taken[-1].offered_at_s)
        for one in seen if self.armed_questions.armed else ():
            yield from self._check(one)

    def _check(self, seen: SeenFrame) -> Work[None]:
        try:
            fired = yield from check(self.session.runner, self.armed_questions.armed, seen)
        except Exception as error:
            self.notices.tell(str(self._sentence(error, "a standing question was not checked")))
            return
        for _, told in fired:
            self._counters.n_fired += self.armed_questions.fire(told)

    def _count(self, fidelity: Fidelity) -> None:
        self._counters.n_frames += 1
        self._counters.n_clear += fidelity is Fidelity.CLEAR
        self._counters.n_fuzzy += fidelity is Fidelity.FUZZY
        self._counters.n_discarded += fidelity is Fidelity.DISCARDED

    def _note_progress(self, wait_s: float) -> None:
        watcher, memory = self.session.watcher, self.session.stream_memory.blocks.stats()
        counts = {f"n_{fidelity}": n for fidelity, n in watcher.log.counts.items()}
        self.progress = SessionProgress(watcher.time_s, wait_s, memory, **counts)

    def _cancel(self, queued: QueuedQuestion) -> None:
        if queued.task is not None:
            queued.task.close()
        if queued.work is not None:
            self._end(queued, queued.work.answer(cancelled=True))
            return
        waited_s = time.perf_counter() - queued.began_s
        nothing = Answer(
            question=queued.question.text, text="", asked_at_s=queued.asked_at_s, evidence=(), retrieved=(),
            timings=Timings(waited_s, waited_s, waited_s), tokens=TokenCounts(0, 0, 0), memory=self.session.memory,
            model=self.session.runner.model.name, cancelled=True,
        )  # fmt: skip
        self._end(queued, nothing)

    def _tell_pieces(self, queued: QueuedQuestion) -> None:
        while queued.work is not None and queued.work.pieces:
            call(queued.listener, Piece(queued.work.pieces.pop(0)))

    def _end(self, queued: QueuedQuestion, outcome: Answer | StreamVlmError) -> None:
        self._tell_pieces(queued)
        with self._changed:
            self.questions.remove(queued)
            promised_s = [other.asked_at_s for other in self.questions if other.scope is None]
            self.queue.keep_promises(max(promised_s, default=-math.inf))
        if isinstance(outcome, Answer):
            self._counters.n_tokens += outcome.tokens.answer
            self._counters.n_answers += not outcome.cancelled
            self._counters.n_cancelled += outcome.cancelled
        else:
            self._counters.n_refused += 1
        call(queued.listener, outcome)

    def _outcome(self, task: Task[Answer]) -> Answer | StreamVlmError:
        try:
            return task.result()
        except Exception as error:
            return self._sentence(error, "the question has no answer")

    def _sentence(self, error: Exception, effect: str) -> StreamVlmError:
        """Returns the error itself if it is meant for the user; otherwise logs it and returns one that is."""
        if isinstance(error, StreamVlmError):
            return error
        self.notices.log.error("an internal failure: %s", effect, exc_info=error)
        failure = EngineError(f"An internal failure ({type(error).__name__}: {error}): {effect}; the log has more.")
        failure.__cause__ = error
        return failure
