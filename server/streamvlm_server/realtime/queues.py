"""The messages that wait on their way into and out of a connection; both queues are bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.client_events import ClientEvent, ItemCreate
from streamvlm_server.realtime.server_events import ErrorEvent, ServerEvent

MAX_WAITING_CHARS = 16 << 20
MAX_WAITING_MESSAGES = 256
MAX_WAITING_FRAMES = 8
MAX_UNSENT_BYTES = 1 << 20


class Inbox:
    """Messages of a client that wait to be followed.

    A text message, parsed to an event or an error, waits until there is room, which slows a fast client down. Of binary
    messages, which are frames, the oldest is dropped: a late frame is worth nothing.

    Attributes:
        n_dropped: Frames that were dropped.
    """

    def __init__(self) -> None:
        self.n_dropped = 0
        self._messages: deque[tuple[bytes | ClientEvent | ProtocolError, int]] = deque()  # and characters of text
        self._n_chars = 0
        self._in_hand = False
        self._changed = asyncio.Condition()

    @property
    def is_followed(self) -> bool:
        """Whether all messages were followed."""
        return not (self._messages or self._in_hand)

    @property
    def holds_frame(self) -> bool:
        """Whether a frame waits."""
        return any(isinstance(message, bytes) for message, _ in self._messages)

    @property
    def holds_pictures_alone(self) -> bool:
        """Whether only frames and items wait, whose order does not matter to a response that is under way."""
        return all(isinstance(message, bytes | ItemCreate) for message, _ in self._messages)

    async def put_frame(self, message: bytes) -> None:
        """Adds a binary message; drops the oldest if there are too many."""
        async with self._changed:
            self._drop_oldest()
            self._messages.append((message, 0))
            self._changed.notify_all()

    async def put(self, message: ClientEvent | ProtocolError, n_chars: int) -> None:
        """Adds the event or error of a text of ``n_chars`` characters, once there is room."""
        async with self._changed:
            await self._changed.wait_for(self._has_room)
            self._n_chars += n_chars
            self._messages.append((message, n_chars))
            self._changed.notify_all()

    async def get(self) -> bytes | ClientEvent | ProtocolError:
        """Returns the oldest message, once there is one; the message before it counts as followed now."""
        async with self._changed:
            self._in_hand = False
            self._changed.notify_all()
            await self._changed.wait_for(lambda: bool(self._messages))
            message, n_chars = self._messages.popleft()
            self._in_hand = True
            self._n_chars -= n_chars
            self._changed.notify_all()
            return message

    async def followed(self) -> None:
        """Returns when all messages were followed."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.is_followed)

    def _has_room(self) -> bool:
        return len(self._messages) < MAX_WAITING_MESSAGES and self._n_chars < MAX_WAITING_CHARS

    def _drop_oldest(self) -> None:
        frames = [place for place, (message, _) in enumerate(self._messages) if isinstance(message, bytes)]
        if len(frames) >= MAX_WAITING_FRAMES:
            del self._messages[frames[0]]
            self.n_dropped += 1


class Outbox:
    """Messages to a client that wait to be sent: the sink of the protocol's events.

    Args:
        on_error: Called with the code of every error event.

    Attributes:
        overflowed: Set once more than a mebibyte waits, as the client reads too slowly.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self.overflowed = asyncio.Event()
        self._on_error, self._is_closed = on_error, False
        self._messages: deque[str] = deque()
        self._bytes = 0
        self._some = asyncio.Event()

    def send(self, event: ServerEvent) -> None:
        """Adds an event; once the outbox is closed, does nothing."""
        if self._is_closed:
            return
        if isinstance(event, ErrorEvent):
            self._on_error(event.error.code)
        self.put(event.model_dump_json())

    def close(self) -> None:
        """Takes no more events; the messages that wait can still be sent."""
        self._is_closed = True

    def put(self, message: str) -> None:
        """Adds a message; beyond the bound it is dropped."""
        if self._bytes + len(message) > MAX_UNSENT_BYTES:
            self.overflowed.set()
            return
        self._bytes += len(message)
        self._messages.append(message)
        self._some.set()

    async def next(self) -> str:
        """Returns the oldest message, once there is one; it stays in the queue until it is sent, for ``drain``."""
        while not self._messages:
            self._some.clear()
            await self._some.wait()
        return self._messages[0]

    def drop_next(self) -> None:
        """Removes the oldest message, which was sent."""
        self._bytes -= len(self._messages.popleft())

    def drain(self) -> list[str]:
        """Removes and returns all messages."""
        messages = list(self._messages)
        self._messages.clear()
        self._bytes = 0
        return messages
