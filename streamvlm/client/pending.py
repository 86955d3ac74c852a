"""What was asked of a server that answers with one event each, in the order in which it was asked."""

from __future__ import annotations

import asyncio

from streamvlm.client.errors import RemoteError
from streamvlm.client.link import Event

_OPENED, _ENDED = "streamvlm.source.opened", "streamvlm.source.ended"


class Pending:
    """Knows which answers are to come over a connection, and hands them to who waits for them.

    Whoever gives up waiting cancels the future. Its answer comes all the same, and then belongs to nobody: the next of
    its type is the answer to what was asked next.
    """

    def __init__(self) -> None:
        self._expected: dict[str, tuple[str, asyncio.Future[Event]]] = {}  # type of the answer, by the id of the event
        self._reads_source = False

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits for any of it."""
        return any(not future.done() for _, future in self._expected.values())

    def expect(self, event_id: str, answer: str) -> asyncio.Future[Event]:
        """Returns what will be the event of this type that answers an event."""
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._expected[event_id] = (answer, future)
        return future

    def take(self, event: Event) -> None:
        """Takes in what the server tells; most of it answers nothing."""
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
        """Takes in that no answer to an event will come; says whether one was to come."""
        if event_id not in self._expected:
            return False
        self._answer(event_id, error)
        return True

    def fail(self, error: RemoteError) -> None:
        """Takes in that the connection is lost, and no answer will come to anything."""
        for event_id in list(self._expected):
            self._answer(event_id, error)
        self._reads_source = False

    def _answer_oldest(self, kind: str, told: Event | RemoteError) -> None:
        for event_id, (answer, _) in self._expected.items():
            if answer == kind:
                self._answer(event_id, told)
                return

    def _answer(self, event_id: str, told: Event | RemoteError) -> None:
        _, future = self._expected.pop(event_id)
        if future.done():
            return  # given up
        if isinstance(told, RemoteError):
            future.set_exception(told)
        else:
            future.set_result(told)
