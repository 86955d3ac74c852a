"""Reads a source into a live session, on a thread: a live one as it comes, a file as fast as it is watched."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum

from streamvlm.archive.compute_threads import compute_alone
from streamvlm.engine.notices import call
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.errors import EngineError, StreamVlmError
from streamvlm.frame import Frame
from streamvlm.ingest.reconnecting import Opens, ReconnectingSource

RESUME_GAP_S = 1.0
"""What goes on a stream that was watched before goes on a second later."""


class SourceState(StrEnum):
    """State of a source: ``opened`` comes first, one of the others at the end."""

    OPENED = "opened"
    ENDED = "ended"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event for a source's listener, on the source's own thread.

    Attributes:
        state: What has become of it.
        n_frames: Frames offered from it so far.
        error: Why it failed; None if it did not.
        warning: What there is to say of it at its end, as that it ended early; None if all is well.
    """

    state: SourceState
    n_frames: int = 0
    error: StreamVlmError | None = None
    warning: str | None = None


class SourceReader:
    """Reads one source.

    Frames of a live source are offered as they come, so that the latest win; those of a file wait until there is
    room, so that none is dropped. Their times go on from what the stream has seen before. A source that stalls or
    drops is tried again for a while, which is noticed.

    Args:
        opens: Opens the source.
        scheduled: Its queue gets them.
        changed: Guards it.
        offer: Gives the stream a frame, to be kept or to be dropped for newer ones; raises when it can take no more.
        listener: Told of ``SourceEvent``.
    """

    def __init__(
        self,
        opens: Opens,
        scheduled: ScheduledSession,
        changed: threading.Condition,
        offer: Callable[[Frame, bool], object],
        listener: Callable[[SourceEvent], None],
    ) -> None:
        self._opens, self._scheduled, self._changed = opens, scheduled, changed
        self._offer, self._listener = offer, listener
        self._is_stopped = False
        self._source: ReconnectingSource | None = None
        self._n_frames = 0
        newest_s = scheduled.queue.newest_s
        self._from_s = 0.0 if newest_s is None else newest_s + RESUME_GAP_S
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)
        self._thread.start()

    @property
    def is_under_way(self) -> bool:
        """Whether it may still offer frames."""
        return self._thread.is_alive() and not self._is_stopped

    def stop(self) -> None:
        """Offers no more frames from now on; a source that keeps silent is closed when it times out."""
        with self._changed:
            self._is_stopped = True
            if self._source is not None:
                self._source.stop()
            self._changed.notify_all()

    def _run(self) -> None:
        compute_alone()
        try:
            end = SourceEvent(SourceState.ENDED, warning=self._pull())
        except StreamVlmError as failure:
            end = SourceEvent(SourceState.FAILED, error=failure)
        except Exception as failure:
            self._scheduled.notices.log.exception("an internal failure while pulling")
            error = EngineError(f"An internal failure ({type(failure).__name__}: {failure}) ended the source.")
            end = SourceEvent(SourceState.FAILED, error=error)
        if self._is_stopped:
            end = SourceEvent(SourceState.STOPPED)
        call(self._listener, replace(end, n_frames=self._n_frames))

    def _pull(self) -> str | None:
        """Reads the source to its end; returns a warning about it, if there is one."""
        with closing(ReconnectingSource(self._opens, from_s=self._from_s, tell=self._scheduled.notices.tell)) as source:
            with self._changed:
                self._source = source
                if self._is_stopped:
                    return None
            call(self._listener, SourceEvent(SourceState.OPENED))
            for frame in source:
                if not self._give(frame, waits=not source.is_live):
                    break
            return source.warning

    def _give(self, frame: Frame, *, waits: bool) -> bool:
        """Offers a frame; returns whether more are wanted."""
        with self._changed:
            if waits:
                self._changed.wait_for(
                    lambda: self._is_stopped or self._scheduled.failure is not None or self._scheduled.queue.has_room
                )
            if self._is_stopped:
                return False
            self._offer(frame, waits)
            self._n_frames += 1
        return True
