"""uvicorn's HTTP protocol, with a timeout for requests that come too slowly.

Where the app waits for a body, `read_body` has a timeout and an answer for it. A connection on which the app does not
wait, as the headers have not come yet or the answer has been sent, is closed here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class SlowRequestTimeoutProtocol(H11Protocol):
    """Closes connections on which a request does not come in time.

    Args:
        within_s: How long a request may take to come, from the opening of the connection or its own first byte.
        **given: The arguments of uvicorn's own class.
    """

    def __init__(self, *, within_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._within_s = within_s
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timeout of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Takes a part of a request; starts its timeout, or stops it when the request is whole."""
        super().data_received(data)
        if self.transport.get_protocol() is not self or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_timer()  # it is whole, or has become a WebSocket, which has timeouts of its own
        elif self._timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timeout, as the client has gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._within_s, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._start_timer()  # for the app, which will answer
