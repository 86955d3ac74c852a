"""Lets the first Ctrl+C or SIGTERM end the watching, and only a second one the command."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Inside its context, the first signal calls ``stop``, and the next one ends the command.

    Args:
        stop: Ends what the command waits for; called between any two steps of the main thread.

    Attributes:
        came: The signal that came; None if there was none.
    """

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop: Callable[[], object] | None = stop
        self._before: dict[signal.Signals, Any] = {}
        self.came: signal.Signals | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other thread gets signals
            self._before = {one: signal.signal(one, self._take) for one in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    @property
    def told(self) -> str:
        """The sentence that says what the first signal did."""
        name = "Ctrl+C" if self.came is signal.SIGINT else signal.SIGTERM.name
        return f"{name} ended the watching, and what is still to be asked is asked now."

    def give_way(self) -> None:
        """Makes the next signal end the command, as there is nothing to stop any more."""
        self._stop = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        stop, self._stop = self._stop, None
        if stop is None:
            quit_by(signal.Signals(number))
        self.came = signal.Signals(number)
        stop()


def quit_by(came: signal.Signals) -> NoReturn:
    """Ends the command in order, with the exit code that shells expect after a signal."""
    if came is signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + came)
