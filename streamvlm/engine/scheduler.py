"""Who takes part in the next step: the whole policy by which sessions share one model.

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
from streamvlm.engine.scheduled_session import EngineCounters, ScheduledSession
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Task


class Scheduler:
    """Takes streams further, step by step; belongs to the worker.

    Args:
        runner: Does the steps.
        config: How much a step may take.
        tally: Counts them.
    """

    def __init__(self, runner: ModelRunner, config: EngineConfig, tally: EngineCounters) -> None:
        self._runner, self._config, self._tally = runner, config, tally
        self._turn = 0
        self._since_ingest = 0  # steps with questions since other frames last began to be watched

    def step(self, streams: Sequence[ScheduledSession]) -> bool:
        """Takes everything whose turn it is one step further; says whether there was anything."""
        for stream in streams:
            stream.begin_questions()
        urgent = [stream for stream in streams if stream.is_urgent]
        self._begin_chunks(urgent)
        is_asked = any(stream.tasks for stream in streams) or any(stream.chunk is not None for stream in urgent)
        patient = [stream for stream in streams if stream not in urgent]
        is_due = not is_asked or self._since_ingest >= self._config.ingest_every
        if is_due and all(stream.chunk is None for stream in patient) and self._begin_chunks(patient):
            self._since_ingest = 0
        tasks: list[Task[Any]] = [task for stream in streams for task in stream.tasks]
        tasks += [stream.chunk for stream in streams if stream.chunk is not None]
        self._runner.advance(tasks)
        self._since_ingest += is_asked
        self._tally.n_steps += 1
        for stream in streams:
            stream.deliver()
        return bool(tasks)

    def _begin_chunks(self, streams: Sequence[ScheduledSession]) -> bool:
        """Deals a step's frames out; says whether there were any."""
        self._turn += 1
        left = self._config.step_frames
        waiting = {stream: stream.n_ready for stream in sorted(streams, key=lambda stream: stream.served)}
        dealt = dict.fromkeys(waiting, 0)
        while left and (hungry := [stream for stream in waiting if dealt[stream] < waiting[stream]]):
            for stream in hungry[:left]:
                dealt[stream] += 1
            left -= len(hungry[:left])
        served = [stream for stream in waiting if dealt[stream]]
        for place, stream in enumerate(served):
            stream.served = self._turn, dealt[stream], place
            stream.begin_chunk(dealt[stream])
        return bool(served)
