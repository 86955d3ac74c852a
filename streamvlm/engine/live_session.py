"""A live session as its users see it: they offer frames and ask questions, from any thread."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from streamvlm.archive.diary import FrameRecord, read_decisions, read_thumbnail
from streamvlm.archive.ownership import Ownership
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.queued_question import Listener, QueuedQuestion
from streamvlm.engine.reports import LiveStats, Timeline
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.engine.source_reader import RESUME_GAP_S, SourceEvent, SourceReader
from streamvlm.engine.worker import Worker
from streamvlm.errors import BusyError, StreamVlmError, UsageError
from streamvlm.frame import Frame, Picture
from streamvlm.gate.gate import Decision
from streamvlm.ingest.disk_file import MAX_KEPT_BYTES
from streamvlm.ingest.source import open_source
from streamvlm.ingest.web.http_client import Admit
from streamvlm.session.question_work import Question
from streamvlm.session.standing_question import Fired, StandingQuestion

_LEAST_STEP_S = 0.001


class QuestionHandle:
    """A question that was asked.

    Attributes:
        asked_at_s: Stream time it looks back from: it sees no later frame.
    """

    def __init__(self, queued: QueuedQuestion, changed: threading.Condition) -> None:
        self.asked_at_s = queued.asked_at_s
        self._queued, self._changed = queued, changed

    def cancel(self) -> None:
        """Breaks the answer off within one step; the listener gets the answer as far as it has come."""
        with self._changed:
            self._queued.is_cancelled = True
            self._changed.notify_all()


class LiveSession:
    """One stream of an engine; made by ``Engine.open``.

    Attributes:
        id: By which it is found and taken up again.
        owner: The owner's name; "" if there is none.
    """

    def __init__(
        self,
        session_id: str,
        ownership: Ownership,
        scheduled: ScheduledSession,
        worker: Worker,
        changed: threading.Condition,
        *,
        config: EngineConfig,
        folder: Path | None,
        close: Callable[[LiveSession], None],
    ) -> None:
        self.id, self.ownership, self.scheduled = session_id, ownership, scheduled
        self._worker, self._changed, self._close = worker, changed, close
        self._config, self._folder = config, folder
        self._origin_s: float | None = None  # clock at stream time 0, where the clock tells the time
        self._reader: SourceReader | None = None

    @property
    def owner(self) -> str:
        """The owner's name; "" if there is none."""
        return self.ownership.owner

    @property
    def is_behind(self) -> bool:
        """Whether one more frame would push an older one out, which waits to be watched."""
        with self._changed:
            return self.scheduled.queue.is_full

    def when_room(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` once when one more frame can wait, now or on the worker's thread; it must return at once.

        It is called too when the stream cannot go on, which ``offer`` then says.
        """
        with self._changed:
            self.scheduled.queue.when_room(tell)

    def offer(
        self, picture: Picture, *, time_s: float | None = None, wall_s: float | None = None, keep: bool = False,
        wait: bool = False,
    ) -> float:  # fmt: skip
        """Gives the stream its next frame; where watching cannot keep up, the oldest frame that waits is dropped.

        Args:
            picture: (height, width, 3) uint8 RGB, of any size; not to be changed afterwards.
            time_s: Its stream time; by default seconds since the session's first frame, by the clock.
            wall_s: Unix time at which it was taken, if known.
            keep: Never drop this one; who offers such frames without ``wait`` waits for room otherwise (``when_room``).
            wait: Rather wait for watching to keep up, so that none is dropped; this one is kept.

        Returns:
            Its stream time.

        Raises:
            UsageError: If it is no picture, or not later than the newest one.
            EngineError: If the stream cannot go on; the same goes for ``ask``.
        """
        _check_picture(picture)
        with self._changed:
            queue = self.scheduled.queue
            self._changed.wait_for(lambda: self._failure is not None or queue.has_room or not wait)
            self._check_alive()
            time_s = self._clock_s() if time_s is None else time_s
            if not (0 <= time_s < math.inf and (queue.newest_s is None or time_s > queue.newest_s)):
                raise UsageError(
                    f"The frame's time is {time_s:g} s and the newest one's {queue.newest_s or 0:g} s; "
                    "give frames in the order of their times, in seconds from 0."
                )
            queue.offer(Frame(queue.n_offered, time_s, picture, wall_s), time.monotonic(), keep=keep or wait)
            self._changed.notify_all()
            return time_s

    def ask(
        self,
        question: str,
        listener: Listener,
        *,
        at_s: float | None = None,
        out_of_band: bool = False,
        max_tokens: int | None = None,
        temperature: float = 0.0,
    ) -> QuestionHandle:
        """Asks about the frames offered so far, in so far as none of them was dropped before.

        Args:
            question: In plain words.
            listener: Hears the answer, on the worker's thread.
            at_s: Answer as of this earlier stream time.
            out_of_band: Neither see the dialogue so far nor become part of it, nor wait for its turn in it.
            max_tokens: Most tokens of the answer, if fewer than the session allows.
            temperature: 0 takes the likeliest words.

        Raises:
            UsageError: If the question is empty, a setting impossible, or nothing has been offered yet.
            BusyError: If too many questions are waiting for their answers.
        """
        asked = Question(question, out_of_band, max_tokens, temperature)
        with self._changed:
            self._check_alive()
            newest_s = self.scheduled.queue.newest_s
            if newest_s is None:
                raise UsageError("Nothing has been seen yet; offer some frames before asking.")
            if at_s is not None and not at_s >= 0:
                raise UsageError(f"The stream begins at 0 s and {at_s:g} s is before it; ask for a later time.")
            if len(self.scheduled.questions) >= self._config.max_questions:
                raise BusyError(
                    f"{self._config.max_questions} questions of this session are waiting for their answers; "
                    "ask again when one is answered."
                )
            asked_at_s = newest_s if at_s is None else min(at_s, newest_s)
            queued = QueuedQuestion(asked, asked_at_s, listener, time.perf_counter())
            self.scheduled.queue.promise(asked_at_s)
            self.scheduled.questions.append(queued)
            self._changed.notify_all()
            return QuestionHandle(queued, self._changed)

    def arm(self, standing: StandingQuestion) -> str:
        """Checks a question on the stream from now on, until it is disarmed; may wait for the end of a step.

        It belongs to the session: where that rests on disk, it is armed again when the session is opened again.

        Args:
            standing: When to check it, and when it fires.

        Returns:
            Its id, which disarms it; a question that is armed already has the same.

        Raises:
            UsageError: If the question is too long.
            BusyError: If too many are armed already.
        """
        self._worker.call(lambda: self.scheduled.session.check_question(standing.question))
        with self._changed:
            self._check_alive()
            armed_now = self.scheduled.armed_questions.armed
            for armed in armed_now:
                if armed.standing == standing:
                    return armed.standing_id
            if len(armed_now) >= self._config.max_standing:
                raise BusyError(
                    f"{self._config.max_standing} standing questions of this session are armed; disarm one first."
                )
            standing_id = secrets.token_hex(8)
            self.scheduled.armed_questions.arm(standing_id, standing)
            return standing_id

    def disarm(self, standing_id: str) -> None:
        """Checks a standing question no more; does nothing if it is not armed."""
        self.scheduled.armed_questions.disarm(standing_id)

    def standing(self) -> dict[str, StandingQuestion]:
        """Returns the standing questions armed now, by their ids."""
        return {armed.standing_id: armed.standing for armed in self.scheduled.armed_questions.armed}

    def on_fired(self, listener: Callable[[Fired], None] | None, *, after: int | None = None) -> int:
        """Passes the firings of standing questions to a listener, first those that none got yet; None: to nobody.

        While there is no listener, the last 64 firings are kept, on disk where the session is.

        Args:
            listener: Must return at once; called on the worker's thread, and on this one for earlier firings.
            after: Number of the last firing that the listener knows: it gets those after it, once more if need be.

        Returns:
            The number after which the listener gets firings.
        """
        return self.scheduled.armed_questions.listen(listener, after=after)

    def pull(
        self,
        uri: str,
        *,
        fps: float = 1.0,
        stream: int | None = None,
        listener: Callable[[SourceEvent], None] = lambda event: None,
        admit: Admit | None = None,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        """Offers the frames of a source, on a thread of its own; the listener gets what goes wrong.

        Args:
            uri: See ``open_source``; a live source is watched as it comes, a file as fast as it can be watched.
            fps: Frames to sample from a second.
            stream: Which of its video streams; see ``open_source``.
            listener: Gets what becomes of the source, on that thread.
            admit: Looks at every URL that a source on the web leads to; see ``open_source``.
            max_kept_bytes: How much of it may be brought to disk; see ``open_source``.

        Raises:
            UsageError: If another source is being pulled.
        """
        with self._changed:
            self._check_alive()
            if self._reader is not None and self._reader.is_under_way:
                raise UsageError("This session pulls a source already; stop that before it pulls another.")
            opens = partial(open_source, uri, fps=fps, stream=stream, admit=admit, max_kept_bytes=max_kept_bytes)
            self._reader = SourceReader(opens, self.scheduled, self._changed, self._offer, listener)

    def stop_pulling(self) -> None:
        """Offers no more frames of the source; does nothing if there is none."""
        if self._reader is not None:
            self._reader.stop()

    def on_decision(self, listener: Callable[[Decision], None] | None) -> None:
        """Passes the gate's decisions to a listener, on the worker's thread; None: to nobody."""
        self.scheduled.on_decision = listener

    def on_notice(self, listener: Callable[[str], None] | None) -> None:
        """Passes notices to a listener, from any thread: sentences about a failing disk or a failed stream.

        The last notices that no listener got yet come first; None: to nobody.
        """
        self.scheduled.notices.listen(listener)

    def stats(self) -> LiveStats:
        """Returns the session's counts as of the last step."""
        with self._changed:
            queue, now = self.scheduled.queue, self.scheduled.progress
            return LiveStats(
                time_s=now.time_s,
                n_offered=queue.n_offered,
                n_dropped=queue.n_dropped,
                n_clear=now.n_clear,
                n_fuzzy=now.n_fuzzy,
                n_discarded=now.n_discarded,
                n_waiting=len(queue),
                n_questions=len(self.scheduled.questions),
                lag_s=self.scheduled.lag_s,
                wait_s=now.wait_s,
                memory=now.memory,
                failure=None if self.scheduled.failure is None else str(self.scheduled.failure),
            )

    def timeline(self, start_s: float = 0.0, stop_s: float = math.inf) -> Timeline:
        """Returns what is known of a stretch of stream time; may wait for the end of a step."""
        session = self.scheduled.session
        blocks, log = self._worker.call(lambda: (session.blocks(), list(session.log)))
        decided = [FrameRecord(d.time_s, str(d.fidelity), d.score) for d in log]
        if self._folder is not None:
            before_s = decided[0].time_s if decided else math.inf
            until_s = min(math.nextafter(stop_s, math.inf), before_s)
            decided = [*read_decisions(self._folder, start_s, until_s), *decided]
        return Timeline(
            tuple(block for block in blocks if block.end_s >= start_s and block.start_s <= stop_s),
            tuple(d for d in decided if start_s <= d.time_s <= stop_s),
        )

    def thumbnail(self, block_id: int) -> bytes | None:
        """Returns a small JPEG of a block's frame; None if there is none on disk (yet)."""
        return None if self._folder is None else read_thumbnail(self._folder, block_id)

    def close(self) -> None:
        """Cancels its questions, watches what waits, leaves all on disk and gives its place back; waits for that."""
        self.stop_pulling()
        self._close(self)

    def _offer(self, frame: Frame, keep: bool) -> None:
        self.offer(frame.picture, time_s=frame.time_s, wall_s=frame.wall_s, keep=keep)

    @property
    def _failure(self) -> StreamVlmError | None:
        return self._worker.failure or self.scheduled.failure

    def _check_alive(self) -> None:
        if (failure := self._failure) is not None:
            raise failure

    def _clock_s(self) -> float:
        now_s, newest_s = time.monotonic(), self.scheduled.queue.newest_s
        if self._origin_s is None:
            self._origin_s = now_s if newest_s is None else now_s - newest_s - RESUME_GAP_S
        at_least_s = 0.0 if newest_s is None else newest_s + _LEAST_STEP_S
        return max(now_s - self._origin_s, at_least_s)


def _check_picture(picture: Picture) -> None:
    if not (isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.dtype == np.uint8):
        raise UsageError("A frame is no array of uint8 with three dimensions; give (height, width, 3) RGB.")
    if picture.shape[2] != 3 or 0 in picture.shape:
        raise UsageError(f"A frame has the shape {picture.shape}; give (height, width, 3) RGB.")
