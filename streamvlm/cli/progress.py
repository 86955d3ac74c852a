"""The lines on stderr that say that a command has begun, and that it still works."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from streamvlm.cli.group import warn
from streamvlm.readable import clock

_EVERY_S = 10.0


class ProgressLines:
    """Says at once what is being done, and, where stderr is no terminal, repeatedly how far it is.

    Args:
        doing: The first thing that is being done.
        every_s: Seconds between two lines.
    """

    def __init__(self, doing: str, *, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._tell_again, name="progress", daemon=True)
        self.begin(doing)

    def __enter__(self) -> Self:
        if not sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended.set()
        if self._thread.is_alive():  # or it could free what it holds, such as a model, while Python exits
            self._thread.join()

    def begin(self, doing: str, how_far: Callable[[], str] | None = None) -> None:
        """Goes on to something else and says so; ``how_far`` is called later, on another thread."""
        self.go_on(doing, how_far)
        warn(doing)

    def go_on(self, doing: str, how_far: Callable[[], str] | None = None) -> None:
        """Goes on to something else, and says so only if it takes long."""
        began_s = time.monotonic()
        self._how_far = how_far or (lambda: f"{doing}, for {clock(time.monotonic() - began_s)} now")

    def _tell_again(self) -> None:
        while not self._has_ended.wait(self._every_s):
            warn(self._how_far())
