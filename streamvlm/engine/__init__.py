"""Sessions: a stream with its gate, memory and dialogue; and the engine that serves many live ones on one model."""

from streamvlm.engine.answer import Answer, Timings, TokenCounts
from streamvlm.engine.answering import Answering
from streamvlm.engine.archive import Archive, ArchiveConfig
from streamvlm.engine.budget import ProcessBudget
from streamvlm.engine.config import EngineConfig, SessionConfig
from streamvlm.engine.engine import Engine, EngineStats, SessionInfo
from streamvlm.engine.live import Asked, LiveSession, LiveStats, Timeline
from streamvlm.engine.pulling import PullEvent, PullState
from streamvlm.engine.session import Session
from streamvlm.engine.standing import Fired, StandingQuestion
from streamvlm.engine.stream import Listener, Piece

__all__ = [
    "Answer",
    "Answering",
    "Archive",
    "ArchiveConfig",
    "Asked",
    "Engine",
    "EngineConfig",
    "EngineStats",
    "Fired",
    "Listener",
    "LiveSession",
    "LiveStats",
    "Piece",
    "ProcessBudget",
    "PullEvent",
    "PullState",
    "Session",
    "SessionConfig",
    "SessionInfo",
    "StandingQuestion",
    "Timeline",
    "Timings",
    "TokenCounts",
]
