"""uvicorn's HTTP protocol, with an end to its patience: a request has to have come within a time.

What comes too slowly ties up a connection for as long as it likes. Where the app waits for a body, `read_body` says so
in an answer; a connection on which nobody waits, for its headers have not come or its answer is told, is closed here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class SlowRequestTimeoutProtocol(H11Protocol):
    """Closes connections on which a request does not come to its end.

    Args:
        within_s: How long a request may take to come, from the opening of the connection or its own first byte.
        **given: As uvicorn makes it.
    """

    def __init__(self, *, within_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._within_s = within_s
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Takes in a part of a request."""
        super().data_received(data)
        if self.transport.get_protocol() is not self or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_waiting()  # it has come, or has become a WebSocket, which looks after itself
        elif self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self._within_s, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._wait()  # for the app, which knows what to answer
