"""A live session as the worker sees it: frames that wait, questions on their way, and what is under way now."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamvlm.engine.armed_questions import ArmedQuestions
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.frame_queue import FrameQueue, WaitingFrame
from streamvlm.engine.notices import Notices, call
from streamvlm.engine.queued_question import Piece, QueuedQuestion
from streamvlm.errors import EngineError, StreamVlmError
from streamvlm.frame import Fidelity
from streamvlm.gate.gate import Decision
from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.session.answer import Answer, Timings, TokenCounts
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


@dataclass(slots=True)
class EngineCounters:
    """What has been done since the engine began; ``n_dropped``, ``n_degraded`` count the sessions that are closed."""

    n_steps: int = 0
    n_frames: int = 0
    n_dropped: int = 0
    n_answers: int = 0
    n_cancelled: int = 0
    n_refused: int = 0
    n_tokens: int = 0
    n_fired: int = 0
    n_judged: Counter[Fidelity] = field(default_factory=Counter)
    n_degraded: Counter[str] = field(default_factory=Counter)


class ScheduledSession:
    """A session, what waits for it, and what of it is under way.

    Args:
        session: Belongs to the worker.
        config: Bounds.
        changed: Guards ``queue``, ``questions`` and ``failure``, which others change as well; everything
            else is the worker's alone.
        tally: Counts what is done.
        notices: Of what should not go unnoticed.
        reach_s: Up to which stream time the disk keeps up: what lies beyond would hold the worker up.
        hurry: Has the disk catch up, where nothing that waits lies within its reach.

    Attributes:
        queue: Frames that wait.
        questions: All that have no answer yet, in the order in which they were asked.
        armed_questions: Its standing questions.
        failure: Why the stream cannot go on; None while it can.
        chunk: The frames being watched; None while there are none.
        progress: As of now, to be read by anybody.
        served: The turn at which it last began to watch, how many frames, and at which place.
        on_decision: Told the gate's decisions.
        notices: Of what should not go unnoticed.
    """

    def __init__(
        self,
        session: Session,
        config: EngineConfig,
        changed: threading.Condition,
        tally: EngineCounters,
        notices: Notices,
        reach_s: Callable[[], float] = lambda: math.inf,
        hurry: Callable[[], None] = lambda: None,
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
        self._changed, self._tally, self._reach_s, self._hurry = changed, tally, reach_s, hurry
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
        """What of its questions is under way."""
        return [question.task for question in self._questions() if question.task is not None]

    @property
    def is_urgent(self) -> bool:
        """Whether a question waits for frames of it."""
        return any(question.moment is None for question in self._questions())

    @property
    def n_ready(self) -> int:
        """Frames that the next chunk could take, at most."""
        with self._changed:
            if self.chunk is not None or not len(self.queue):
                return 0
            if not self.queue.holds(self._reach_s()):
                self._hurry()  # of pictures far apart, none comes meanwhile that would have it write
                return 0
            return min(len(self.queue), self._chunk_frames)

    # --- before a step ---

    def begin_questions(self) -> None:
        """Ends what was cancelled, and begins every question whose frames are watched and whose turn it is.

        Questions in the dialogue are answered one after another, as each may refer to the answers before it.
        """
        is_talking = False
        for question in self._questions():
            if question.is_cancelled:
                self._cancel(question)
                continue
            if question.task is None:
                self._begin(question, is_talking)
            is_talking = is_talking or not question.asking.out_of_band

    def begin_chunk(self, most: int) -> None:
        """Begins to watch up to so many frames; none that a waiting question must not see."""
        with self._changed:
            until_s = min((q.asked_at_s for q in self.questions if q.moment is None), default=math.inf)
            taken = self.queue.take(most, min(until_s, self._reach_s()), self._chunk_s)
            if taken:  # still under the lock: there is no moment without work, in which the stream could be released
                self.chunk = Task(self._watch(taken))

    # --- after a step ---

    def deliver(self) -> None:
        """Tells of what has come to an end."""
        if self.chunk is not None and self.chunk.has_ended:
            ended, self.chunk = self.chunk, None
            try:
                ended.result()
            except Exception as error:
                self.fail(self._sentence(error, "this stream cannot go on"))
        for question in self._questions():
            if question.task is not None and question.task.has_ended:
                self._end(question, self._outcome(question.task))

    def fail(self, failure: StreamVlmError) -> None:
        """Gives the stream up: its questions and whoever listens are told why."""
        with self._changed:
            self.failure = failure
            self.queue.clear()
        if self.chunk is not None:
            self.chunk.close()
            self.chunk = None
        for question in self._questions():
            if question.task is not None:
                question.task.close()
            self._end(question, failure)
        self.notices.tell(str(failure))

    def _questions(self) -> list[QueuedQuestion]:
        with self._changed:
            return list(self.questions)

    def _begin(self, question: QueuedQuestion, is_talking: bool) -> None:
        if question.moment is None:
            with self._changed:
                if self.chunk is not None or self.queue.holds(question.asked_at_s):
                    return
            try:
                moment = self.session.moment(question.asked_at_s)
            except StreamVlmError as error:
                self._end(question, error)
                return
            question.moment = replace(moment, asked_at_s=question.asked_at_s)
        if question.asking.out_of_band or not is_talking:
            listener = question.listener
            question.inquiry = self.session.inquire(
                question.asking, question.moment, lambda text: call(listener, Piece(text)), question.began_s
            )
            question.task = Task(question.inquiry.work())

    def _watch(self, taken: Sequence[WaitingFrame]) -> Work[None]:
        seen = yield from self.session.watch([waiting.frame for waiting in taken])
        for one in seen:
            self._tally.n_judged[one.decision.fidelity] += 1
            if (listener := self.on_decision) is not None:
                call(listener, one.decision)
        self._tally.n_frames += len(seen)
        self._note_progress(time.monotonic() - taken[-1].offered_at_s)
        for one in seen:
            yield from self._check(one)

    def _check(self, seen: SeenFrame) -> Work[None]:
        try:
            fired = yield from check(self.session.runner, self.armed_questions.armed, seen)
        except Exception as error:
            self.notices.tell(str(self._sentence(error, "a standing question was not checked")))
            return
        for _, told in fired:
            self._tally.n_fired += self.armed_questions.fire(told)

    def _note_progress(self, wait_s: float) -> None:
        counts = {f"n_{fidelity}": n for fidelity, n in self.session.log.counts.items()}
        self.progress = SessionProgress(self.session.time_s, wait_s, self.session.memory, **counts)

    def _cancel(self, question: QueuedQuestion) -> None:
        if question.task is not None:
            question.task.close()
        if question.inquiry is not None:
            self._end(question, question.inquiry.answer(cancelled=True))
            return
        waited_s = time.perf_counter() - question.began_s
        nothing = Answer(
            question=question.asking.question, text="", asked_at_s=question.asked_at_s, evidence=(), retrieved=(),
            timings=Timings(waited_s, waited_s, waited_s), tokens=TokenCounts(0, 0, 0), memory=self.session.memory,
            model=self.session.runner.model.name, cancelled=True,
        )  # fmt: skip
        self._end(question, nothing)

    def _end(self, question: QueuedQuestion, outcome: Answer | StreamVlmError) -> None:
        with self._changed:
            self.questions.remove(question)
            self.queue.keep_promises(max((q.asked_at_s for q in self.questions if q.moment is None), default=-math.inf))
        if isinstance(outcome, Answer):
            self._tally.n_tokens += outcome.tokens.answer
            self._tally.n_answers += not outcome.cancelled
            self._tally.n_cancelled += outcome.cancelled
        else:
            self._tally.n_refused += 1
        call(question.listener, outcome)

    def _outcome(self, task: Task[Answer]) -> Answer | StreamVlmError:
        try:
            return task.result()
        except Exception as error:
            return self._sentence(error, "the question has no answer")

    def _sentence(self, error: Exception, effect: str) -> StreamVlmError:
        """The error itself if it is meant for the user; otherwise one that is, and the traceback in the log."""
        if isinstance(error, StreamVlmError):
            return error
        self.notices.log.error("an internal failure: %s", effect, exc_info=error)
        failure = EngineError(f"An internal failure ({type(error).__name__}: {error}): {effect}; the log has more.")
        failure.__cause__ = error
        return failure
