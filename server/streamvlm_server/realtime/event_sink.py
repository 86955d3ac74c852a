"""Where the protocol's events go."""

from __future__ import annotations

from typing import Protocol

from streamvlm_server.realtime.server_events import ServerEvent


class EventSink(Protocol):
    """Takes the events of one connection, in order, until it is closed."""

    def send(self, event: ServerEvent) -> None:
        """Takes the next event; does nothing once the sink is closed."""

    def close(self) -> None:
        """Takes no more events."""
