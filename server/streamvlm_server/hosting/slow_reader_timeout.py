"""uvicorn's WebSocket protocol, with a timeout for clients that do not read, and none for clients that are not read.

A client that does not read would keep its socket open for good: what is sent to it waits, its close frame behind all
else, and a socket is not closed while something waits. Aborting the transport frees it.

A client that is not read, as its pictures wait for room, is not cut off: its pongs lie behind those.
"""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

TIMEOUT_S = 5.0


class SlowReaderTimeoutProtocol(WebSocketsSansIOProtocol):
    """Cuts off a client for which sent bytes, or a close frame, wait five seconds beyond what the system buffers."""

    _abort_timer: TimerHandle | None = None
    _heard_at_s = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Has every byte that waits reported by ``pause_writing``."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)
        self.close_timeout = TIMEOUT_S  # for the answer to a close frame; what the client sends until then is read

    async def send(self, message: ASGISendEvent) -> None:
        """Sends; a refusal over HTTP ends the handshake too, or uvicorn would log it as the app's error."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def data_received(self, data: bytes) -> None:
        """Notes the time of bytes that came."""
        self._heard_at_s = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        """Closes the connection as no ping was answered; pings again where that says nothing of the client."""
        if self.read_paused or self._heard_at_s > self.ping_sent_at:
            self.stop_keepalive()
            self.start_keepalive()
        else:
            super().keepalive_timeout()

    def pause_writing(self) -> None:
        """Starts the timeout, as bytes wait to be sent."""
        super().pause_writing()
        self._abort_timer = self.loop.call_later(TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops the timeout, as nothing waits any more."""
        super().resume_writing()
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timeout, as the socket is closed."""
        super().connection_lost(exc)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
