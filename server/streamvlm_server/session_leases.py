"""Sessions outlive their connections: which connection holds which session, and when one that is left is closed."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession
from streamvlm.errors import BusyError, SessionNotFoundError, SessionRefusedError

logger = logging.getLogger(__name__)

TAKEN_OVER = "Another connection has taken the session up."
_LOOK_AGAIN_S = 0.2
"""At a session that is due, and whose last questions are still being answered."""


@dataclass(eq=False, slots=True)
class _Lease:
    """A session, and the connection that holds it or has left it.

    Attributes:
        session: As it was last opened.
        holding: Locked while a connection holds the session.
        newest: Ends the newest connection that wants the session, whether it holds it or still waits for it.
        left_at_s: When the last connection left it (``time.monotonic``); None while one holds it.
    """

    session: LiveSession
    holding: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Callable[[], None] | None = None
    left_at_s: float | None = field(default_factory=time.monotonic)


class SessionLeases:
    """Leases sessions to connections, one connection each; the newest wins, as the older may be half open.

    A session that is left stays open for a while, so that its client may come back, and is then closed; where the
    engine keeps sessions on disk, its memory stays there. Where all places are taken, the session that was left first
    is closed first.

    Args:
        engine: Opens the sessions.
        linger_s: Seconds that a session stays open after it was left.
    """

    def __init__(self, engine: Engine, linger_s: float) -> None:
        self._engine, self._linger_s = engine, linger_s
        self._leases: dict[str, _Lease] = {}
        self._left = asyncio.Event()

    @asynccontextmanager
    async def lease(
        self, session_id: str | None, *, owner: str, token: str | None, taken_over: Callable[[], None]
    ) -> AsyncIterator[tuple[LiveSession, str]]:
        """Leases a session, a new one or one taken up again; yields it with the token that takes it up again.

        Args:
            session_id: Of the session; None for a new one.
            owner: Owner of the session.
            token: Proves the right to a session that has no owner.
            taken_over: Called when another connection takes the session up; this one should end at once.

        Raises:
            UsageError, SessionRefusedError, BusyError, StoreError: As ``Engine.open`` does.
            SessionRefusedError: Also if a newer connection took the session up while this one waited for it.
        """
        secret = token or secrets.token_urlsafe(24)
        session = await self._open(session_id, owner, secret)  # first: a client that is refused disturbs no other
        while True:
            lease = self._lease_of(session)
            if lease.newest is not None:
                lease.newest()
            lease.newest = taken_over
            async with lease.holding:
                if self._leases.get(session.id) is not lease:
                    continue  # it was closed meanwhile
                lease.session = await self._open(session.id, owner, secret)
                if lease.newest is not taken_over:  # while this one waited, and there was no connection to end yet
                    raise SessionRefusedError(TAKEN_OVER)
                lease.left_at_s = None
                try:
                    yield lease.session, secret
                finally:
                    self._leave(lease)
                    if lease.newest is taken_over:
                        lease.newest = None
                    if _is_empty(lease.session):
                        await self._close(lease, forget=True)
            return

    async def find(self, session_id: str, *, owner: str) -> LiveSession:
        """Returns a session for the time of a request; if no connection holds it, it counts as left just now.

        Raises:
            SessionNotFoundError, BusyError, StoreError: As ``Engine.find`` does.
        """
        session = await self.open_or_evict(lambda: self._engine.find(session_id, owner=owner))
        lease = self._lease_of(session)
        if not lease.holding.locked():
            lease.session = session
            self._leave(lease)
        return session

    async def open_or_evict(self, opened: Callable[[], LiveSession]) -> LiveSession:
        """Opens a session by ``opened``, on a thread; while no place is free, evicts sessions that were left."""
        while True:
            try:
                return await asyncio.to_thread(opened)
            except BusyError:
                if not (left := self._unused()):
                    raise
                await self._close_if_left(left[0])

    async def close_expired(self) -> None:
        """Closes sessions ``linger_s`` after they were left; never returns."""
        while True:
            self._left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._due_in_s()):
                    await self._left.wait()
            for lease in self._unused():
                if lease.left_at_s is not None and time.monotonic() - lease.left_at_s >= self._linger_s:
                    try:
                        await self._close_if_left(lease)
                    except Exception:  # the others have to be closed nevertheless
                        logger.exception("session %s could not be closed in order", lease.session.id)

    def _due_in_s(self) -> float | None:
        """Returns the seconds until the session that was left first is to be closed; None if none was left."""
        left_at_s = [lease.left_at_s for lease in self._leases.values() if lease.left_at_s is not None]
        if not left_at_s:
            return None
        return max(min(left_at_s) + self._linger_s - time.monotonic(), _LOOK_AGAIN_S)

    def _lease_of(self, session: LiveSession) -> _Lease:
        self._left.set()  # a new lease begins as left
        return self._leases.setdefault(session.id, _Lease(session))

    def _leave(self, lease: _Lease) -> None:
        lease.left_at_s = time.monotonic()
        self._left.set()

    def _unused(self) -> list[_Lease]:
        """Returns the sessions that no connection holds and no question asks, those left first at the front."""
        unused = [
            lease
            for lease in self._leases.values()
            if lease.left_at_s is not None and not lease.holding.locked() and not lease.session.stats().n_questions
        ]
        return sorted(unused, key=lambda lease: lease.left_at_s or 0.0)

    async def _open(self, session_id: str | None, owner: str, secret: str) -> LiveSession:
        return await self.open_or_evict(lambda: self._engine.open(session_id, owner=owner, secret=secret))

    async def _close_if_left(self, lease: _Lease) -> None:
        async with lease.holding:
            if lease.left_at_s is not None and self._leases.get(lease.session.id) is lease:
                await self._close(lease)

    async def _close(self, lease: _Lease, *, forget: bool = False) -> None:
        """Closes a session whose lease is locked; ``forget`` deletes it from disk too."""
        session = lease.session
        del self._leases[session.id]
        try:
            if forget:
                await asyncio.to_thread(self._engine.delete, session.id, owner=session.owner)
            else:
                await asyncio.to_thread(session.close)
        except SessionNotFoundError:  # it was deleted meanwhile
            logger.debug("session %s was gone already", session.id)


def _is_empty(session: LiveSession) -> bool:
    """Whether nothing is lost if it is closed: it has seen nothing, and has no standing question."""
    now = session.stats()
    return now.n_offered == 0 and now.time_s is None and not session.standing()
