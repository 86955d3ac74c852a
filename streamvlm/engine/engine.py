"""Live sessions on one model: whose they are, how they stand, and the worker that serves them all."""

from __future__ import annotations

import secrets
import threading
import time
from functools import partial
from types import TracebackType
from typing import Self

from streamvlm.archive.compute_threads import in_passing
from streamvlm.archive.ownership import Ownership
from streamvlm.archive.session_folders import SessionFolders, SessionInfo, check_session_id, is_session_id
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import EngineCounters
from streamvlm.engine.live_session import LiveSession
from streamvlm.engine.reports import EngineStats, EngineView
from streamvlm.engine.scheduler import Scheduler
from streamvlm.engine.session_places import SessionPlaces
from streamvlm.engine.worker import Worker
from streamvlm.errors import EngineError, SessionNotFoundError, SessionRefusedError
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.model_runner import ModelRunner


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
        self._folders = SessionFolders(self.config.home, self.config.disk_budget_bytes)
        self._counters, self._changed, self._began_s = EngineCounters(), threading.Condition(), time.monotonic()
        runner = in_passing(partial(ModelRunner, model))
        self._worker = Worker(Scheduler(runner, self.config, self._counters), self._changed)
        self._places = SessionPlaces(self._folders, runner, self._worker, self._changed, self.config, self._counters)
        self._worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def failure(self) -> EngineError | None:
        """The reason why the engine can do nothing any more; None while it can."""
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
        with self._places.holding(session_id):
            known = self._places.ownership(session_id)
            if known is not None and not known.admits(owner, secret):
                raise SessionRefusedError(f"Session {session_id} is not yours; give its secret, or open another one.")
            return self._places.open(session_id, known or Ownership.of(owner, secret), is_temporary=is_temporary)

    def find(self, session_id: str, *, owner: str = "") -> LiveSession:
        """Returns a session of this owner's that is open, or opens it from disk.

        Raises:
            SessionNotFoundError: If there is none of that id, or it is somebody else's.
            BusyError: If it rests on disk and there is no place for one more.
        """
        with self._places.holding(session_id):
            return self._places.open(session_id, self._own(session_id, owner))

    def sessions(self, *, owner: str | None = None) -> list[SessionInfo]:
        """Returns the sessions that are open or rest on disk, of one owner or of all, the last used first."""
        infos = [info for info in self._places.infos() if owner is None or info.owner == owner]
        return sorted(infos, key=lambda info: -info.used_unix_s)

    def delete(self, session_id: str, *, owner: str = "") -> None:
        """Ends a session of this owner's, and forgets it on disk.

        Raises:
            SessionNotFoundError: If there is none of that id, or it is somebody else's.
        """
        with self._places.holding(session_id):
            self._own(session_id, owner)
            self._places.remove(session_id)

    def stats(self) -> EngineStats:
        """Returns counts as of now; never waits for a step."""
        with self._changed:
            sessions, disk_bytes = [live.scheduled for live in self._places.live()], self._folders.quota.used_bytes
            view = EngineView(self.config, self._worker, sessions, disk_bytes, self._began_s)
            return EngineStats.of(self._counters, view)

    def close(self, *, drain_s: float = 10.0) -> None:
        """Ends: what is under way ends within ``drain_s`` seconds or is cancelled, and all is left on disk."""
        for live in self._places.live():
            live.stop_pulling()
        self._worker.close(drain_s)
        while sessions := self._places.live():
            for live in sessions:
                self._places.close(live)

    def _own(self, session_id: str, owner: str) -> Ownership:
        known = self._places.ownership(session_id) if is_session_id(session_id) else None
        if known is None or known.owner != owner:
            raise SessionNotFoundError(f"There is no session {session_id[:64]!r}; open one.")
        return known
