"""An engine whose worker takes one step at a call, so that a test can make every interleaving."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from tiny_model import TinyModel, colour

from streamvlm.archive.ownership import Ownership
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters
from streamvlm.engine.live_session import LiveSession, QuestionHandle
from streamvlm.engine.notices import Notices
from streamvlm.engine.queued_question import Piece
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.engine.scheduler import Scheduler
from streamvlm.engine.worker import Worker
from streamvlm.errors import StreamVlmError
from streamvlm.session.answer import Answer
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.session import Session

Told = Piece | Answer | StreamVlmError


class Heard(list[Told]):
    """What a listener heard, in order."""

    @property
    def text(self) -> str:
        return "".join(told.text for told in self if isinstance(told, Piece))

    @property
    def has_ended(self) -> bool:
        return bool(self) and not isinstance(self[-1], Piece)

    @property
    def answer(self) -> Answer:
        assert isinstance(self[-1], Answer), self
        return self[-1]


@dataclass
class ByHand:
    """Streams of a tiny model, a scheduler and a worker without a thread."""

    model: TinyModel
    config: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        self.changed, self.counters = threading.Condition(), EngineCounters()
        self.runner = ModelRunner(self.model)
        self.worker = Worker(Scheduler(self.runner, self.config, self.counters), self.changed)
        self.lives: list[LiveSession] = []

    def open(self) -> LiveSession:
        session = Session(self.model, self.config.session, runner=self.runner)
        scheduled = ScheduledSession(session, self.config, self.changed, self.counters, Notices(str(len(self.lives))))
        live = LiveSession(
            str(len(self.lives)), Ownership(), scheduled, self.worker, self.changed,
            config=self.config, folder=None, close=lambda live: None,
        )  # fmt: skip
        self.worker.add(scheduled)
        self.lives.append(live)
        return live

    @property
    def has_work(self) -> bool:
        return any(live.scheduled.has_work for live in self.lives)

    def step(self) -> None:
        self.worker.step()

    def finish(self) -> None:
        while self.has_work:
            self.worker.step()


def offer(live: LiveSession, n: int = 1) -> None:
    """Offers the next frames, a second apart."""
    for _ in range(n):
        newest_s = live.scheduled.queue.newest_s
        time_s = 0.0 if newest_s is None else newest_s + 1.0
        live.offer(colour(int(time_s)), time_s=time_s)


def ask(live: LiveSession, **settings: Any) -> tuple[QuestionHandle, Heard]:
    """Asks, and hears."""
    heard = Heard()
    return live.ask("abc?", heard.append, **settings), heard
