"""The one thread that runs the model, for all live sessions."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from streamvlm.archive.compute_threads import compute_in_team
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.engine.scheduler import Scheduler
from streamvlm.errors import EngineError

logger = logging.getLogger(__name__)

_POLL_S = 0.02
"""How long to wait where all that waits is waiting for a disk."""

T = TypeVar("T")


class Worker:
    """Steps through all sessions that have something to do, and sleeps when there is nothing.

    An error in one session ends that session alone. If the thread itself dies, every session fails.

    Args:
        scheduler: Knows the sessions and does the steps.
        changed: Notified whenever there may be something to do; guards what the sessions say it guards.

    Attributes:
        busy_s: Seconds spent in steps.
        failure: The reason why it runs no more; None while it runs.
    """

    def __init__(self, scheduler: Scheduler, changed: threading.Condition) -> None:
        self.busy_s = 0.0
        self.failure: EngineError | None = None
        self._scheduler, self._changed = scheduler, changed
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ends_at_s: float | None = None
        self._step_began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def step_s(self) -> float:
        """Seconds that the step under way has taken so far; 0 where there is none."""
        began_s = self._step_began_s
        return 0.0 if began_s is None else time.perf_counter() - began_s

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def add(self, session: ScheduledSession) -> None:
        """Serves one more session."""
        with self._changed:
            if self.failure is not None:
                raise self.failure
            self._scheduler.sessions.append(session)
            self._changed.notify_all()

    def release(self, session: ScheduledSession) -> None:
        """Returns when the session's questions are cancelled and its frames watched; it then belongs to the caller."""
        with self._changed:
            for queued in session.questions:
                queued.is_cancelled = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.failure is not None or not session.has_work)
            if session in self._scheduler.sessions:
                self._scheduler.sessions.remove(session)

    def call(self, function: Callable[[], T]) -> T:
        """Calls a function between two steps, when sessions may be read, and returns its result."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        with self._changed:
            if self.failure is not None:
                raise self.failure
            self._calls.append((function, future))
            self._changed.notify_all()
        return future.result()

    def close(self, drain_s: float) -> None:
        """Ends the thread: when all is done, or, after ``drain_s`` seconds, with what is still under way cancelled."""
        with self._changed:
            self._ends_at_s = time.monotonic() + drain_s
            self._changed.notify_all()
        self._thread.join()

    # --- the thread ---

    def _run(self) -> None:
        try:
            compute_in_team()
            while self._wait_for_work():
                self.step()
            self._end(EngineError("The engine is closed; open another one."))  # no session has anything left
        except BaseException as error:
            logger.critical("the engine's worker died", exc_info=error)
            self._end(EngineError(f"The engine's worker died ({type(error).__name__}: {error}); start it again."))

    def _wait_for_work(self) -> bool:
        """Waits for something to do; returns False if there will be nothing any more."""
        with self._changed:
            self._changed.notify_all()  # who waits for a session's end looks again
            self._changed.wait_for(lambda: self._has_work() or self._ends_at_s is not None)
            if self._ends_at_s is not None and time.monotonic() >= self._ends_at_s:
                self._give_up()
            return self._has_work()

    def _give_up(self) -> None:
        """Cancels what is under way and drops what waits; under the lock."""
        if n_frames := sum(len(session.queue) for session in self._scheduler.sessions):
            logger.warning("%d frames still waited when the time to end was over; they were not watched", n_frames)
        for session in self._scheduler.sessions:
            session.queue.clear()
            for queued in session.questions:
                queued.is_cancelled = True

    def _has_work(self) -> bool:
        return bool(self._calls) or self._scheduler.has_work

    def step(self) -> None:
        """Makes the calls that wait, and runs one step of all sessions."""
        with self._changed:
            calls = [self._calls.popleft() for _ in range(len(self._calls))]
        for function, future in calls:
            _answer(function, future)
        self._step_began_s = began_s = time.perf_counter()
        has_run = self._scheduler.step()
        self._step_began_s = None
        self.busy_s += time.perf_counter() - began_s
        if not has_run:
            with self._changed:
                if self._scheduler.has_work and not self._calls:
                    self._changed.wait(_POLL_S)

    def _end(self, failure: EngineError) -> None:
        with self._changed:
            self.failure = failure
            calls, sessions = list(self._calls), list(self._scheduler.sessions)
            self._calls.clear()
        for _, future in calls:
            future.set_exception(failure)
        for session in sessions:
            if session.has_work:
                session.fail(failure)
        with self._changed:
            self._changed.notify_all()


def _answer(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
