"""uvicorn's WebSocket protocol, with an end to its patience where that is needed, and with more where it is not.

Peers that do not read are cut off. What is sent to such a peer waits, its close frame behind all else, and a socket is
not closed before nothing waits any more: it would stay for good, whatever had the connection end. Aborting the
transport frees it.

Peers that are not read from, as their pictures wait for room, are not cut off: their pongs lie behind those.
"""

from __future__ import annotations

from asyncio import BaseTransport, TimerHandle

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PATIENCE_S = 5.0


class SlowReaderTimeoutProtocol(WebSocketsSansIOProtocol):
    """Cuts off who lets what is sent wait for five seconds, beyond what the system takes in; a close frame likewise."""

    _cutting_off: TimerHandle | None = None
    _heard_at_s = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Asks to be told of all that waits."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)
        self.close_timeout = PATIENCE_S  # until the peer answers a close frame; all that it sends is still read

    async def send(self, message: ASGISendEvent) -> None:
        """Sends; a refusal in HTTP's words ends the handshake too, or uvicorn would log it as the app's error."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        self._heard_at_s = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        """A ping was not answered in time; another one is sent where that says nothing of the peer."""
        if self.read_paused or self._heard_at_s > self.ping_sent_at:
            self.stop_keepalive()
            self.start_keepalive()
        else:
            super().keepalive_timeout()

    def pause_writing(self) -> None:
        """Something waits to be sent."""
        super().pause_writing()
        self._cutting_off = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Nothing waits any more."""
        super().resume_writing()
        self._calm_down()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        super().connection_lost(exc)
        self._calm_down()

    def _calm_down(self) -> None:
        if self._cutting_off is not None:
            self._cutting_off.cancel()
            self._cutting_off = None
