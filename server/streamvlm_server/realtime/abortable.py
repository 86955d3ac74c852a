"""uvicorn's WebSocket protocol, with a way to cut off a peer that does not read: ASGI itself has none.

A socket whose peer does not read cannot be closed either, as the close frame would have to wait behind what is not
read. What such a peer holds, a descriptor and a buffer, is freed by aborting its transport.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

ABORT = "streamvlm.abort"
"""The ASGI extension: a callable without arguments."""


class AbortableProtocol(WebSocketsSansIOProtocol):
    """Offers the extension to the app."""

    def handle_connect(self, event: Request) -> None:
        """Takes a handshake in."""
        super().handle_connect(event)
        if self.response.status_code == 101:  # the app's task exists but has not run yet
            self.scope["extensions"][ABORT] = self.transport.abort  # type: ignore[assignment]
