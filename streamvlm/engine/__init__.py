"""Sessions: a stream with its gate, memory and dialogue; and the engine that serves many live ones on one model."""

from streamvlm.engine.answer import Answer, Timings, TokenCounts
from streamvlm.engine.answering import Answering
from streamvlm.engine.archive import Archive, ArchiveConfig
from streamvlm.engine.budget import ProcessBudget
from streamvlm.engine.config import EngineConfig, SessionConfig
from streamvlm.engine.engine import Engine
from streamvlm.engine.home import SessionInfo
from streamvlm.engine.live import Asked, LiveSession
from streamvlm.engine.live_question import Listener, Piece
from streamvlm.engine.pulling import PullEvent, PullState
from streamvlm.engine.reports import EngineStats, LiveStats, Timeline
from streamvlm.engine.session import Session
from streamvlm.engine.standing import Fired, StandingQuestion

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
