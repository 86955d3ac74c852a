"""Live sessions on one model: who may have one, where each is kept, and the worker that serves them all."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from streamvlm.archive.archive import Archive
from streamvlm.archive.ownership import Ownership
from streamvlm.archive.session_folders import SessionFolders, SessionInfo, check_session_id, is_session_id
from streamvlm.archive.threads import in_passing
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.notices import Notices
from streamvlm.engine.reports import EngineStats, degraded
from streamvlm.engine.scheduled_session import EngineCounters, ScheduledSession
from streamvlm.engine.scheduler import Scheduler
from streamvlm.engine.worker import Worker
from streamvlm.errors import (
    BusyError,
    EngineError,
    MemoryBudgetError,
    SessionNotFoundError,
    SessionRefusedError,
)
from streamvlm.frame import Fidelity
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.ram_budget import RamBudget
from streamvlm.session.session import Session


class Engine:
    """Serves live sessions until it is closed; all of it may be called from any thread.

    Args:
        model: Belongs to the engine from now on.
        config: Bounds.

    Raises:
        StoreError: If sessions cannot be kept in the home it is given.
    """

    def __init__(self, model: VideoLanguageModel, config: EngineConfig | None = None) -> None:
        self.model, self.config = model, config or EngineConfig()
        self._home = SessionFolders(self.config.home, self.config.disk_budget_bytes)
        self._runner, self._counters = in_passing(partial(ModelRunner, model)), EngineCounters()
        self._process = RamBudget(self.config.host_budget_bytes)
        self._changed = threading.Condition()
        self._places: dict[str, _OpenSession] = {}
        self._n_opening = 0
        self._held: set[str] = set()  # ids that somebody is opening, closing or deleting just now
        self._began_s = time.monotonic()
        self._worker = Worker(Scheduler(self._runner, self.config, self._counters), self._changed)
        self._worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def failure(self) -> EngineError | None:
        """Why it can no longer do anything; None while it can."""
        return self._worker.failure

    def open(
        self,
        session_id: str | None = None,
        *,
        owner: str = "",
        secret: str | None = None,
        is_temporary: bool = False,
    ) -> LiveSession:
        """Opens a new session, or takes up one that is open already or rests on disk.

        Args:
            session_id: Of the session; by default a new one. One that does not exist is made.
            owner: Whose it is.
            secret: Takes up a session that is nobody's; kept as a hash.
            is_temporary: Keep nothing of it, and do not list it: it ends with ``close``.

        Raises:
            UsageError: If the id is not of 1 to 64 letters, digits, ``_`` and ``-``.
            SessionRefusedError: If it is somebody else's, or the secret is wrong.
            BusyError: If there is no place for one more.
            StoreError: If its folder cannot be used.
        """
        session_id = secrets.token_hex(12) if session_id is None else check_session_id(session_id)
        with self._holding(session_id):
            known = self._known(session_id)
            if known is not None and not known.admits(owner, secret):
                raise SessionRefusedError(f"Session {session_id} is not yours; give its secret, or open another one.")
            return self._admit(session_id, known or Ownership.of(owner, secret), is_temporary=is_temporary)

    def find(self, session_id: str, *, owner: str = "") -> LiveSession:
        """A session of this owner's that is open, or is opened from disk.

        Raises:
            SessionNotFoundError: If there is none of that id, or it is somebody else's.
            BusyError: If it rests on disk and there is no place for one more.
        """
        with self._holding(session_id):
            return self._admit(session_id, self._own(session_id, owner))

    def sessions(self, *, owner: str | None = None) -> list[SessionInfo]:
        """Sessions that are open or rest on disk, the last used first; of one owner, or everybody's."""
        found = {
            place.live.id: SessionInfo(place.live.id, place.live.owner, is_open=True, used_unix_s=place.opened_unix_s)
            for place in self._open_places()
            if not place.is_temporary
        }
        found = {info.id: info for info in self._home.sessions()} | found
        infos = [info for info in found.values() if owner is None or info.owner == owner]
        return sorted(infos, key=lambda info: -info.used_unix_s)

    def delete(self, session_id: str, *, owner: str = "") -> None:
        """Ends a session of this owner's, and forgets it on disk.

        Raises:
            SessionNotFoundError: If there is none of that id, or it is somebody else's.
        """
        with self._holding(session_id):
            self._own(session_id, owner)
            if (place := self._places.get(session_id)) is not None:
                self._dismiss(place)
            self._home.remove(session_id)

    def stats(self) -> EngineStats:
        """Counts as of now; never waits for a step."""
        with self._changed:
            sessions, counters = [place.live.scheduled for place in self._places.values()], self._counters
            memories = [session.progress.memory for session in sessions]
            return EngineStats(
                n_sessions=len(sessions),
                max_sessions=self.config.max_sessions,
                up_s=time.monotonic() - self._began_s,
                busy_s=self._worker.busy_s,
                step_s=self._worker.step_s,
                n_steps=counters.n_steps,
                n_frames=counters.n_frames,
                n_dropped=counters.n_dropped + sum(session.queue.n_dropped for session in sessions),
                n_clear=counters.n_judged[Fidelity.CLEAR],
                n_fuzzy=counters.n_judged[Fidelity.FUZZY],
                n_discarded=counters.n_judged[Fidelity.DISCARDED],
                n_waiting=sum(len(session.queue) for session in sessions),
                n_questions=sum(len(session.questions) for session in sessions),
                n_questions_waiting=sum(queued.task is None for session in sessions for queued in session.questions),
                n_answers=counters.n_answers,
                n_cancelled=counters.n_cancelled,
                n_refused=counters.n_refused,
                n_tokens=counters.n_tokens,
                n_fired=counters.n_fired,
                n_degraded=sum(map(degraded, memories), counters.n_degraded),
                n_clear_blocks=sum(memory.n_clear for memory in memories),
                n_fuzzy_blocks=sum(memory.n_fuzzy for memory in memories),
                device_bytes=sum(memory.device_bytes for memory in memories),
                device_budget_bytes=self.config.device_budget_bytes,
                host_bytes=sum(memory.host_bytes for memory in memories),
                host_budget_bytes=self.config.host_budget_bytes,
                disk_bytes=self._home.quota.used_bytes,
                disk_budget_bytes=self.config.disk_budget_bytes,
                lag_s=max((session.lag_s for session in sessions), default=0.0),
                wait_s=max((session.progress.wait_s for session in sessions), default=0.0),
            )

    def close(self, *, drain_s: float = 10.0) -> None:
        """Ends: what is under way ends within ``drain_s`` seconds or is cancelled, and all is left on disk."""
        for place in self._open_places():
            place.live.stop_pulling()
        self._worker.close(drain_s)
        while places := self._open_places():
            for place in places:
                self._leave(place.live)

    # --- one session at a time ---

    @contextmanager
    def _holding(self, session_id: str) -> Iterator[None]:
        """Keeps everybody else from opening, closing or deleting this session meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: session_id not in self._held)
            self._held.add(session_id)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(session_id)
                self._changed.notify_all()

    def _open_places(self) -> list[_OpenSession]:
        with self._changed:
            return list(self._places.values())

    def _known(self, session_id: str) -> Ownership | None:
        """Whose a session is that is open or rests on disk; None where there is none."""
        if (place := self._places.get(session_id)) is not None:
            return place.live.ownership
        return self._home.ownership(session_id)

    def _own(self, session_id: str, owner: str) -> Ownership:
        known = self._known(session_id) if is_session_id(session_id) else None
        if known is None or known.owner != owner:
            raise SessionNotFoundError(f"There is no session {session_id[:64]!r}; open one.")
        return known

    def _admit(self, session_id: str, ownership: Ownership, *, is_temporary: bool = False) -> LiveSession:
        """Opens a session that is held, if there is a place for it."""
        if (place := self._places.get(session_id)) is not None:
            return place.live
        with self._changed:
            if len(self._places) + self._n_opening >= self.config.max_sessions:
                raise BusyError(f"All {self.config.max_sessions} sessions are in use; close one, or try again later.")
            self._n_opening += 1
        try:
            place = self._furnish(session_id, ownership, is_temporary)
            with self._changed:
                self._places[session_id] = place
        finally:
            with self._changed:
                self._n_opening -= 1
        return place.live

    def _furnish(self, session_id: str, ownership: Ownership, is_temporary: bool) -> _OpenSession:
        try:
            self._process.take(self.config.session.host_budget_bytes)
        except MemoryBudgetError as error:
            raise BusyError(f"There is no memory for another session; close one, or try again later. {error}") from None
        with ExitStack() as undo:
            undo.callback(self._process.give_back, self.config.session.host_budget_bytes)
            archive, notices = None, Notices(session_id)
            folder = None if is_temporary else self._home.folder(session_id)
            if folder is not None:
                ownership.save(folder)
                archive = Archive(
                    folder, self.model, self.config.archive, on_event=notices.tell, quota=self._home.quota
                )
                undo.callback(archive.close)
            session = Session(self.model, self.config.share, archive=archive, runner=self._runner)
            scheduled = ScheduledSession(session, self.config, self._changed, self._counters, notices)
            live = LiveSession(
                session_id, ownership, scheduled, self._worker, self._changed,
                config=self.config, folder=folder, close=self._leave,
            )  # fmt: skip
            self._worker.add(scheduled)
            return _OpenSession(live, time.time(), is_temporary, undo.pop_all())

    def _leave(self, live: LiveSession) -> None:
        with self._holding(live.id):
            if (place := self._places.get(live.id)) is not None and place.live is live:
                self._dismiss(place)

    def _dismiss(self, place: _OpenSession) -> None:
        """Takes a held session out of service; the thread that wants it waits for its disk, and no other does."""
        scheduled = place.live.scheduled
        with self._changed:
            scheduled.failure = scheduled.failure or EngineError("This session is closed; open it again.")
            if place.is_temporary:
                scheduled.queue.clear()  # nobody will ask of it any more
        self._worker.release(scheduled)
        try:
            with place.undo:
                scheduled.session.close()
        finally:
            with self._changed:
                del self._places[place.live.id]
                self._counters.n_dropped += scheduled.queue.n_dropped
                self._counters.n_degraded.update(degraded(scheduled.session.memory))


@dataclass(frozen=True, slots=True)
class _OpenSession:
    """An open session, since when it is, whether nothing of it stays, and what is to be done at its end."""

    live: LiveSession
    opened_unix_s: float
    is_temporary: bool
    undo: ExitStack
