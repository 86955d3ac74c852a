"""A source that is read on its own thread, so that waiting for the next frame can be interrupted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self

from streamvlm.frame import Frame
from streamvlm.ingest.reconnecting import ReconnectingSource

_MOST_AHEAD = 4
"""Frames that may wait: enough to read on while a chunk is watched, and few enough that a live one is not old."""

_JOIN_TIMEOUT_S = 0.5


class ReadAhead(Iterator[Frame]):
    """Frames of a source as a thread reads them, none dropped; ``stop`` ends them at once, from any thread.

    FFmpeg cannot be interrupted while it waits for a camera. So the thread waits, and the caller does not; the thread
    closes the source when that answers or times out.

    Args:
        opens: Opens the source, on the thread; the constructor returns when it is open.

    Attributes:
        source: What is read; use its properties, do not iterate over it.

    Raises:
        StreamVlmError: If it cannot be opened.
    """

    source: ReconnectingSource

    def __init__(self, opens: Callable[[], ReconnectingSource]) -> None:
        self._opens = opens
        self._changed = threading.Condition()
        self._waiting: deque[Frame] = deque()
        self._is_open = self._has_ended = self._is_stopped = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._is_open or self._has_ended)
        except BaseException:
            self.stop()
            raise
        if not self._is_open and self._error is not None:
            raise self._error

    def __next__(self) -> Frame:
        """Returns the next frame; raises the source's error once all frames before it were returned."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._has_ended or self._is_stopped)
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None and not self._is_stopped:
                raise self._error
            raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # Python cannot exit cleanly while a thread returns from FFmpeg; one that still waits there does no harm.
        self._thread.join(_JOIN_TIMEOUT_S)

    def stop(self) -> None:
        """Ends the frames, from any thread or signal handler; those that were read already still come."""
        with self._changed:
            self._is_stopped = True
            if self._is_open:
                self.source.stop()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            source = self._opens()
            with closing(source):
                with self._changed:
                    self.source, self._is_open = source, True
                    self._changed.notify_all()
                self._read(source)
        except Exception as error:
            self._error = error
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _read(self, source: ReconnectingSource) -> None:
        for frame in source:
            with self._changed:
                self._changed.wait_for(lambda: len(self._waiting) < _MOST_AHEAD or self._is_stopped)
                if self._is_stopped:
                    return
                self._waiting.append(frame)
                self._changed.notify_all()
