"""Notices of a session: a failing disk, blocks that are damaged, a stream that cannot go on."""

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
    """Logs every notice and passes it to the listener; while there is none, the last few wait for one.

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
        """Logs a notice, a sentence, and passes it to the listener."""
        self.log.warning("%s", sentence)
        with self._lock:
            if self._listener is None:
                self._untold.append(sentence)
            else:
                call(self._listener, sentence)

    def listen(self, listener: Callable[[str], None] | None) -> None:
        """Sets the listener, which must return at once, and passes it the notices that wait; None: no listener."""
        with self._lock:
            self._listener = listener
            while listener is not None and self._untold:
                call(listener, self._untold.popleft())


def call(listener: Callable[[T], object], told: T) -> None:
    """Calls a listener with an event; an error that it raises is logged, and harms nothing else."""
    try:
        listener(told)
    except Exception:
        logger.exception("a listener failed on %s", type(told).__name__)
