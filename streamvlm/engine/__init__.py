"""Sessions: a stream with its gate, memory and dialogue, and the questions asked of it."""

from streamvlm.engine.answer import Answer, Answering, Timings, TokenCounts
from streamvlm.engine.archive import Archive, ArchiveConfig
from streamvlm.engine.budget import ProcessBudget
from streamvlm.engine.session import Session, SessionConfig

__all__ = [
    "Answer",
    "Answering",
    "Archive",
    "ArchiveConfig",
    "ProcessBudget",
    "Session",
    "SessionConfig",
    "Timings",
    "TokenCounts",
]
