"""The places for sessions: which are open, and what is done to open, close and remove one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from streamvlm.archive.archive import Archive
from streamvlm.archive.ownership import Ownership
from streamvlm.archive.session_folders import SessionFolders, SessionInfo
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters
from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.notices import Notices
from streamvlm.engine.scheduled_session import ScheduledSession
from streamvlm.engine.worker import Worker
from streamvlm.errors import BusyError, EngineError, MemoryBudgetError
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.ram_budget import RamBudget
from streamvlm.session.session import Session


@dataclass(frozen=True, slots=True)
class _OpenSession:
    """An open session, when it was opened, whether nothing of it stays, and what is to be done at its end."""

    live: LiveSession
    opened_unix_s: float
    is_temporary: bool
    undo: ExitStack


class SessionPlaces:
    """As many places for open sessions as an engine has; all of it may be called from any thread.

    Args:
        folders: Where sessions rest.
        runner: Runs the model for all of them.
        worker: Serves the open ones.
        changed: Guards the places.
        config: Bounds.
        counters: Take over what a session has counted when it ends.
    """

    def __init__(
        self,
        folders: SessionFolders,
        runner: ModelRunner,
        worker: Worker,
        changed: threading.Condition,
        config: EngineConfig,
        counters: EngineCounters,
    ) -> None:
        self._folders, self._runner, self._worker = folders, runner, worker
        self._changed, self._config, self._counters = changed, config, counters
        self._ram = RamBudget(config.host_budget_bytes)
        self._open: dict[str, _OpenSession] = {}
        self._n_opening = 0
        self._held: set[str] = set()  # ids that a thread is opening, closing or removing just now

    @contextmanager
    def holding(self, session_id: str) -> Iterator[None]:
        """Keeps all other threads from opening, closing or removing this session meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: session_id not in self._held)
            self._held.add(session_id)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(session_id)
                self._changed.notify_all()

    def live(self) -> list[LiveSession]:
        """Returns the sessions that are open."""
        with self._changed:
            return [place.live for place in self._open.values()]

    def infos(self) -> list[SessionInfo]:
        """Returns the sessions that are open or rest on disk, without those of which nothing stays."""
        with self._changed:
            places = [place for place in self._open.values() if not place.is_temporary]
        opened = {
            place.live.id: SessionInfo(place.live.id, place.live.owner, is_open=True, used_unix_s=place.opened_unix_s)
            for place in places
        }
        return list(({info.id: info for info in self._folders.sessions()} | opened).values())

    def ownership(self, session_id: str) -> Ownership | None:
        """Returns whose a session is that is open or rests on disk; None if there is none."""
        if (place := self._open.get(session_id)) is not None:
            return place.live.ownership
        return self._folders.ownership(session_id)

    def open(self, session_id: str, ownership: Ownership, *, is_temporary: bool = False) -> LiveSession:
        """Opens a session that is held, unless it is open already.

        Raises:
            BusyError: If there is no place for it.
            StoreError: If its folder cannot be used.
        """
        if (place := self._open.get(session_id)) is not None:
            return place.live
        with self._changed:
            if len(self._open) + self._n_opening >= self._config.max_sessions:
                raise BusyError(f"All {self._config.max_sessions} sessions are in use; close one, or try again later.")
            self._n_opening += 1
        try:
            place = self._make(session_id, ownership, is_temporary)
            with self._changed:
                self._open[session_id] = place
        finally:
            with self._changed:
                self._n_opening -= 1
        return place.live

    def close(self, live: LiveSession) -> None:
        """Closes a session, unless it is closed already."""
        with self.holding(live.id):
            if (place := self._open.get(live.id)) is not None and place.live is live:
                self._end(place)

    def remove(self, session_id: str) -> None:
        """Ends a session that is held, and removes it from disk."""
        if (place := self._open.get(session_id)) is not None:
            self._end(place)
        self._folders.remove(session_id)

    def _make(self, session_id: str, ownership: Ownership, is_temporary: bool) -> _OpenSession:
        host_bytes, model = self._config.session.host_budget_bytes, self._runner.model
        try:
            self._ram.take(host_bytes)
        except MemoryBudgetError as error:
            raise BusyError(f"There is no memory for another session; close one, or try again later. {error}") from None
        with ExitStack() as undo:
            undo.callback(self._ram.give_back, host_bytes)
            archive, notices = None, Notices(session_id)
            folder = None if is_temporary else self._folders.folder(session_id)
            if folder is not None:
                ownership.save(folder)
                quota = self._folders.quota
                archive = Archive(folder, model, self._config.archive, on_event=notices.tell, quota=quota)
                undo.callback(archive.close)
            session = Session(model, self._config.share, archive=archive, runner=self._runner)
            scheduled = ScheduledSession(session, self._config, self._changed, self._counters, notices)
            live = LiveSession(
                session_id, ownership, scheduled, self._worker, self._changed,
                config=self._config, folder=folder, close=self.close,
            )  # fmt: skip
            self._worker.add(scheduled)
            return _OpenSession(live, time.time(), is_temporary, undo.pop_all())

    def _end(self, place: _OpenSession) -> None:
        """Takes a held session out of service; only the calling thread waits for the session's disk."""
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
                del self._open[place.live.id]
                scheduled.add_counts(self._counters, scheduled.session.memory)
