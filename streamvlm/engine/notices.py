"""What should not go unnoticed of a session: a failing disk, blocks that are damaged, a stream that cannot go on."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

MOST_UNTOLD = 16

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Notices:
    """Logs every sentence and tells it to who listens; where nobody does, the last few wait for who comes.

    Everything here may be called from any thread.

    Args:
        session_id: By which the session is known.

    Attributes:
        log: Every line in it names the session.
    """

    def __init__(self, session_id: str) -> None:
        self.log = logging.LoggerAdapter(logging.getLogger(__name__), {"session_id": session_id})
        self._lock = threading.Lock()
        self._listener: Callable[[str], None] | None = None
        self._untold: deque[str] = deque(maxlen=MOST_UNTOLD)

    def tell(self, sentence: str) -> None:
        """Something has happened."""
        self.log.warning("%s", sentence)
        with self._lock:
            if self._listener is None:
                self._untold.append(sentence)
            else:
                call(self._listener, sentence)

    def listen(self, listener: Callable[[str], None] | None) -> None:
        """Has it told, first what nobody was told of; None: no more. The listener must return at once."""
        with self._lock:
            self._listener = listener
            while listener is not None and self._untold:
                call(listener, self._untold.popleft())


def call(listener: Callable[[T], object], told: T) -> None:
    """Tells a listener; one that raises against the rules is logged, and nobody else suffers for it."""
    try:
        listener(told)
    except Exception:
        logger.exception("a listener failed on %s", type(told).__name__)
