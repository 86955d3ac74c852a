"""Sessions outlive their connections: who holds which one, and what becomes of one that nobody holds."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streamvlm.engine.engine import Engine
from streamvlm.engine.live_session import LiveSession
from streamvlm.errors import BusyError, SessionNotFoundError, SessionRefusedError

logger = logging.getLogger(__name__)

TAKEN_OVER = "Another connection has taken the session up."
_SWEEP_EVERY_S = 0.2


@dataclass(eq=False, slots=True)
class _Lease:
    """A session that is or was held.

    Attributes:
        session: As it was last opened.
        holding: Locked while a connection holds it.
        newest: Has the newest of the connections that want it leave, whether it holds it or still waits.
        left_at_s: Since when nobody holds it (``time.monotonic``); None while somebody does.
    """

    session: LiveSession
    holding: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: Callable[[], None] | None = None
    left_at_s: float | None = field(default_factory=time.monotonic)


class SessionLeases:
    """Gives sessions to connections, one connection each; the newest wins, as the older may be half open.

    A session that is left lingers, so that its client may come back to it, and is then closed: its place is free, and
    where the engine has a home its memory stays. Where all places are taken, what has lingered longest goes first.

    Args:
        engine: Whose sessions they are.
        linger_s: How long a session keeps its place after it was left.
    """

    def __init__(self, engine: Engine, linger_s: float) -> None:
        self._engine, self._linger_s = engine, linger_s
        self._places: dict[str, _Lease] = {}

    @asynccontextmanager
    async def attach(
        self, session_id: str | None, *, owner: str, token: str | None, taken_over: Callable[[], None]
    ) -> AsyncIterator[tuple[LiveSession, str]]:
        """Holds a session, a new one or one taken up again; yields it with the token that takes it up again.

        Args:
            session_id: Of the session; None for a new one.
            owner: Whose it is.
            token: Proves the right to a session that is nobody's.
            taken_over: Called when another connection takes the session up; this one should leave at once.

        Raises:
            UsageError, SessionRefusedError, BusyError, StoreError: As ``Engine.open`` does.
            SessionRefusedError: Likewise if a newer connection took the session up while this one waited for it.
        """
        secret = token or secrets.token_urlsafe(24)
        session = await self._open(session_id, owner, secret)  # first of all: who may not have it disturbs nobody
        while True:
            place = self._places.setdefault(session.id, _Lease(session))
            if place.newest is not None:
                place.newest()
            place.newest = taken_over
            async with place.holding:
                if self._places.get(session.id) is not place:
                    continue  # it was swept away meanwhile
                place.session = await self._open(session.id, owner, secret)
                if place.newest is not taken_over:  # which has not been told, as it held nothing yet
                    raise SessionRefusedError(TAKEN_OVER)
                place.left_at_s = None
                try:
                    yield place.session, secret
                finally:
                    place.left_at_s = time.monotonic()
                    if place.newest is taken_over:
                        place.newest = None
                    if _is_unused(place.session):
                        await self._close(place, forget=True)
            return

    async def visit(self, session_id: str, *, owner: str) -> LiveSession:
        """A session for the while of a request; one that nobody holds then lingers as if it had been left just now.

        Raises:
            SessionNotFoundError, BusyError, StoreError: As ``Engine.find`` does.
        """
        session = await self.with_room(lambda: self._engine.find(session_id, owner=owner))
        place = self._places.setdefault(session.id, _Lease(session))
        if not place.holding.locked():
            place.session, place.left_at_s = session, time.monotonic()
        return session

    async def with_room(self, opened: Callable[[], LiveSession]) -> LiveSession:
        """Opens a session by ``opened``, on a thread; where all places are taken, those that linger make room."""
        while True:
            try:
                return await asyncio.to_thread(opened)
            except BusyError:
                if not (lingering := self._lingering()):
                    raise
                await self._close_if_left(lingering[0])

    async def sweep(self) -> None:
        """Closes sessions that have lingered long enough, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            for place in self._lingering():
                if place.left_at_s is not None and time.monotonic() - place.left_at_s >= self._linger_s:
                    try:
                        await self._close_if_left(place)
                    except Exception:  # the others have to be closed nevertheless
                        logger.exception("session %s could not be closed in order", place.session.id)

    def _lingering(self) -> list[_Lease]:
        """Sessions that nobody holds or asks, those left longest ago first."""
        left = [
            place
            for place in self._places.values()
            if place.left_at_s is not None and not place.holding.locked() and not place.session.stats().n_questions
        ]
        return sorted(left, key=lambda place: place.left_at_s or 0.0)

    async def _open(self, session_id: str | None, owner: str, secret: str) -> LiveSession:
        return await self.with_room(lambda: self._engine.open(session_id, owner=owner, secret=secret))

    async def _close_if_left(self, place: _Lease) -> None:
        async with place.holding:
            if place.left_at_s is not None and self._places.get(place.session.id) is place:
                await self._close(place)

    async def _close(self, place: _Lease, *, forget: bool = False) -> None:
        """Closes a session whose place is held; ``forget`` leaves nothing of it on disk either."""
        session = place.session
        del self._places[session.id]
        try:
            if forget:
                await asyncio.to_thread(self._engine.delete, session.id, owner=session.owner)
            else:
                await asyncio.to_thread(session.close)
        except SessionNotFoundError:  # somebody has deleted it already
            logger.debug("session %s was gone already", session.id)


def _is_unused(session: LiveSession) -> bool:
    """Whether nothing would be lost with it: it was shown nothing, and waits for nothing."""
    now = session.stats()
    return now.n_offered == 0 and now.time_s is None and not session.standing()
