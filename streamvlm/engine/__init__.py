"""Sessions: a stream with its gate, memory and dialogue, and the questions asked of it."""

from streamvlm.engine.answer import Answer, Timings, TokenCounts
from streamvlm.engine.answering import Answering
from streamvlm.engine.archive import Archive, ArchiveConfig
from streamvlm.engine.budget import ProcessBudget
from streamvlm.engine.config import SessionConfig
from streamvlm.engine.session import Session

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
