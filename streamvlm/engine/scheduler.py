"""Decides what takes part in the next step: the whole policy by which sessions share one model.

A step is one vision call and one decoder pass at most. In every step, all questions under way go on, each by one want:
a probe, a prefill, a word; and the frames that a question waits for go with them. Other frames begin to be watched
when no question is under way, and otherwise at least every ``ingest_every`` steps, so that neither starves the other: a
question waits for one chunk at most, a frame for so many words. A chunk that has begun goes on in every step.
Chunks of several sessions begin together and the next ones when all have ended; their frames are dealt out one by one,
beginning with the sessions that had their turn longest ago, and with those that got less of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Task


class Scheduler:
    """Runs sessions step by step; belongs to the worker.

    Args:
        runner: Does the steps.
        config: How much a step may take.
        counters: Count them.

    Attributes:
        sessions: Those that are open; to be changed under the engine's lock.
    """

    def __init__(self, runner: ModelRunner, config: EngineConfig, counters: EngineCounters) -> None:
        self.sessions: list[ScheduledSession] = []
        self._runner, self._config, self._counters = runner, config, counters
        self._turn = 0
        self._since_ingest = 0  # steps with questions since other frames last began to be watched

    @property
    def has_work(self) -> bool:
        """Whether anything waits or is under way; to be asked under the lock."""
        return any(session.has_work for session in self.sessions)

    def step(self) -> bool:
        """Runs one step of everything whose turn it is; returns whether there was anything."""
        sessions = list(self.sessions)  # others may come and go meanwhile
        for session in sessions:
            session.begin_questions()
        urgent = [session for session in sessions if session.is_urgent]
        self._begin_chunks(urgent)
        is_asked = any(session.tasks for session in sessions) or any(session.chunk is not None for session in urgent)
        others = [session for session in sessions if session not in urgent]
        is_due = not is_asked or self._since_ingest >= self._config.ingest_every
        if is_due and all(session.chunk is None for session in others) and self._begin_chunks(others):
            self._since_ingest = 0
        tasks: list[Task[Any]] = [task for session in sessions for task in session.tasks]
        tasks += [session.chunk for session in sessions if session.chunk is not None]
        self._runner.advance(tasks)
        self._since_ingest += is_asked
        self._counters.n_steps += 1
        for session in sessions:
            session.deliver()
        return bool(tasks)

    def _begin_chunks(self, sessions: Sequence[ScheduledSession]) -> bool:
        """Deals a step's frames out; returns whether there were any."""
        self._turn += 1
        left = self._config.step_frames
        waiting = {session: session.n_ready for session in sorted(sessions, key=lambda session: session.served)}
        dealt = dict.fromkeys(waiting, 0)
        while left and (hungry := [session for session in waiting if dealt[session] < waiting[session]]):
            for session in hungry[:left]:
                dealt[session] += 1
            left -= len(hungry[:left])
        served = [session for session in waiting if dealt[session]]
        for place, session in enumerate(served):
            session.served = self._turn, dealt[session], place
            session.begin_chunk(dealt[session])
        return bool(served)
