"""Requests that wait for a session of their own while all are in use: bounded, and fair to every owner."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from streamvlm.errors import BusyError

_RETRY_S = 0.2
"""How often the first request tries again: not every place that becomes free is notified."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class _Ticket:
    owner: str
    n_bytes: int


class AdmissionQueue:
    """Admits requests one by one: owners take turns, and each owner's first request goes first. For one thread alone.

    Args:
        most: Most requests that may wait.
        most_bytes: Most bytes of media that they may hold, all of them together.
        within_s: Longest time that each may wait.
    """

    def __init__(self, most: int, most_bytes: int, within_s: float) -> None:
        self._most, self._most_bytes, self._within_s = most, most_bytes, within_s
        self._queues: dict[str, deque[_Ticket]] = {}  # by owner, in the order of their turns
        self._changed = asyncio.Event()

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._queues.values()))

    async def admit(self, owner: str, n_bytes: int, opened: Callable[[], Awaitable[T]]) -> T:
        """Returns what ``opened`` returns, tried until it raises BusyError no more.

        Args:
            owner: Owner of the request.
            n_bytes: Bytes of media that the request holds while it waits.
            opened: Tried at once if no request waits, else when it is this request's turn.

        Raises:
            BusyError: If too many requests or bytes wait already, or this one has waited too long.
        """
        if not self._queues:
            with suppress(BusyError):
                return await opened()
        ends_at_s = asyncio.get_running_loop().time() + self._within_s
        with self._waiting(_Ticket(owner, n_bytes)) as ticket:
            while True:
                changed = self._changed  # as of now: what changes from here on may be too late for this try
                if self._first is ticket:
                    with suppress(BusyError):
                        return await opened()
                await self._change(changed, ends_at_s)

    def notify(self) -> None:
        """Lets the first request try again, as a place may have become free."""
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def _first(self) -> _Ticket | None:
        return next((queue[0] for queue in self._queues.values()), None)

    @contextmanager
    def _waiting(self, ticket: _Ticket) -> Iterator[_Ticket]:
        held_bytes = sum(one.n_bytes for queue in self._queues.values() for one in queue)
        if self.n_waiting >= self._most or held_bytes + ticket.n_bytes > self._most_bytes:
            raise BusyError(f"All places are taken, and {self.n_waiting} requests wait for one; try again later.")
        self._queues.setdefault(ticket.owner, deque()).append(ticket)
        try:
            yield ticket
        finally:
            self._leave(ticket)
            self.notify()

    def _leave(self, ticket: _Ticket) -> None:
        had_turn = self._first is ticket
        queue = self._queues[ticket.owner]
        queue.remove(ticket)
        if had_turn or not queue:
            del self._queues[ticket.owner]
        if had_turn and queue:
            self._queues[ticket.owner] = queue  # behind all others

    async def _change(self, changed: asyncio.Event, ends_at_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= ends_at_s:
            raise BusyError(f"No place became free within {self._within_s:g} s; try again later.")
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(ends_at_s, now_s + _RETRY_S)):
                await changed.wait()
