"""Requests to a server that it answers with one event each, in their order."""

from __future__ import annotations

import asyncio

from streamvlm.client.errors import RemoteError
from streamvlm.client.link import Event

_OPENED, _ENDED = "streamvlm.source.opened", "streamvlm.source.ended"


class Pending:
    """Keeps the requests whose answers are to come over a connection, and sets their futures.

    A caller that gives up cancels its future. The answer comes all the same, and is dropped: the next event of its
    type answers the next request.
    """

    def __init__(self) -> None:
        self._expected: dict[str, tuple[str, asyncio.Future[Event]]] = {}  # type of the answer, by the id of the event
        self._reads_source = False

    @property
    def is_waited_for(self) -> bool:
        """Whether any answer is waited for."""
        return any(not future.done() for _, future in self._expected.values())

    def expect(self, event_id: str, answer: str) -> asyncio.Future[Event]:
        """Returns the future of the event of this type that will answer an event."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._expected[event_id] = (answer, future)
        return future

    def take(self, event: Event) -> None:
        """Takes an event of the server, which may be an answer."""
        kind = event["type"]
        if kind == _OPENED:
            self._reads_source = True
        elif kind == _ENDED:
            if not self._reads_source:  # it could not be opened, or was closed before it was
                error = RemoteError(event["error"] or "The source has ended.", code="invalid_source")
                self._answer_oldest(_OPENED, error)
            self._reads_source = False
        self._answer_oldest(kind, event)

    def refuse(self, event_id: str, error: RemoteError) -> bool:
        """Fails the answer to an event; returns whether one was expected."""
        if event_id not in self._expected:
            return False
        self._answer(event_id, error)
        return True

    def fail(self, error: RemoteError) -> None:
        """Fails every answer, as the connection is lost."""
        for event_id in list(self._expected):
            self._answer(event_id, error)
        self._reads_source = False

    def _answer_oldest(self, kind: str, outcome: Event | RemoteError) -> None:
        for event_id, (answer, _) in self._expected.items():
            if answer == kind:
                self._answer(event_id, outcome)
                return

    def _answer(self, event_id: str, outcome: Event | RemoteError) -> None:
        _, future = self._expected.pop(event_id)
        if future.done():
            return  # given up
        if isinstance(outcome, RemoteError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
