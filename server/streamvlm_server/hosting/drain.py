"""Stopping without losing anything: no new request is taken, and those under way may end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamvlm_server.errors import DrainingError

logger = logging.getLogger(__name__)


class Drain:
    """Counts the requests and connections under way, and stops taking new ones; for one thread, the event loop's.

    Attributes:
        is_draining: Whether new requests and connections are refused.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._running: dict[object, Callable[[], None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def n_running(self) -> int:
        """Requests and connections under way."""
        return len(self._running)

    def check(self) -> None:
        """Raises DrainingError if new requests are refused."""
        if self.is_draining:
            raise DrainingError("This server is about to stop; try again in a moment.")

    @contextmanager
    def running(self, going_away: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Makes the server wait, before it stops, for a request or connection.

        Args:
            going_away: Called once when the server is about to stop, so that a connection that would never end by
                itself can warn its client and end. Must return at once.

        Raises:
            DrainingError: If new requests are refused.
        """
        self.check()
        key = object()
        self._running[key] = going_away
        self._idle.clear()
        try:
            yield
        finally:
            del self._running[key]
            if not self._running:
                self._idle.set()

    async def finish(self, within_s: float) -> None:
        """Refuses new requests from now on; returns when those under way have ended, or after ``within_s``."""
        self.is_draining = True
        logger.info("stopping: nothing new is taken, %d requests and connections may end", self.n_running)
        for going_away in list(self._running.values()):
            going_away()
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d requests and connections did not end within %g s", self.n_running, within_s)
