"""One WebSocket: five tasks around a protocol, none of which waits for the engine.

    reading    socket → inbox                waits for room there, and for nothing else
    following  inbox → protocol              decodes pictures on threads; those of items wait for room in the stream
    writing    outbox → socket               the only one that sends
    watching   ticks, idle clients, the end
    bounding   ends it when the outbox is full, as the client reads too slowly

Both boxes are bounded, and the protocol's calls on the engine return at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamvlm.errors import StreamVlmError, UsageError
from streamvlm.wire import FrameMessage
from streamvlm_server.access.limits import Meter, TokenBucket
from streamvlm_server.config import ServerConfig
from streamvlm_server.error_codes import wire
from streamvlm_server.errors import ProtocolError, RateLimitError, in_part
from streamvlm_server.monitoring.metrics import Metrics
from streamvlm_server.realtime.client_events import ClientEvent, ItemCreate, ResponseCancel, SourceOpen, parse
from streamvlm_server.realtime.engine_stream import EngineStream
from streamvlm_server.realtime.protocol import ProtocolState, RealtimeProtocol
from streamvlm_server.realtime.queues import Inbox, Outbox
from streamvlm_server.untrusted.picture import Timed
from streamvlm_server.untrusted.picture_threads import PictureDecoder
from streamvlm_server.untrusted.source_url import check_source

MAX_MESSAGES_PER_S = 1000.0
_TICK_S = 1.0
_LEAVING_TICK_S = 0.05
CLOSE_S = 3.0
_CLOSE_WITHIN_S = 2.0
"""For a client of the extension, to close the connection itself: then all that it had sent was read."""
_MAX_REASON_BYTES = 123  # of a WebSocket's close frame


class ConnectionEnd(Exception):
    """A connection is over.

    Attributes:
        code: WebSocket close code; None if the client has closed it.
        reason: In a sentence.
        error: Sent to the client as an event first; None for none.
    """

    def __init__(self, code: int | None, reason: str = "", *, error: Exception | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.error = code, reason, error


class Connection:
    """Serves one client until one of the two sides ends the connection.

    Args:
        websocket: The WebSocket, already accepted.
        stream: What is watched and asked.
        model: Name of the model that answers.
        token: Takes the session up again.
        decoder: Decodes pictures.
        meter: Counts frames.
        metrics: Counts frames and events that are refused.
        config: Configuration of the server, for its bounds.
    """

    def __init__(
        self,
        websocket: WebSocket,
        stream: EngineStream,
        *,
        model: str,
        token: str,
        decoder: PictureDecoder,
        meter: Meter,
        metrics: Metrics,
        config: ServerConfig,
    ) -> None:
        self._websocket, self._stream, self._decoder = websocket, stream, decoder
        self._meter, self._metrics, self._config = meter, metrics, config
        self._inbox, self._outbox = Inbox(), Outbox(metrics.refused)
        self._protocol = RealtimeProtocol(stream, self._outbox, model=model, resume_token=token)
        self._ending: ConnectionEnd | None = None
        self._ended = asyncio.Event()
        self._heard_at_s = self._answered_at_s = time.monotonic()

    async def serve(self) -> ConnectionEnd:
        """Serves, and returns the reason of the end; the socket is not closed yet."""
        self._protocol.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (self._read, self._follow, self._write, self._watch, self._bound):
                    tasks.create_task(part())
        except* ConnectionEnd as endings:
            self._ending = endings.exceptions[0]  # type: ignore[assignment]
        finally:
            if self._ending is not None and self._ending.error is not None:
                self._protocol.refuse(self._ending.error)
            self._protocol.close()
        assert self._ending is not None, "the tasks end in no other way"
        return self._ending

    def end(self, code: int, reason: str) -> None:
        """Ends the connection soon."""
        self._ending = self._ending or ConnectionEnd(code, reason)
        self._ended.set()

    def go_away(self) -> None:
        """Warns the client that the server is about to stop, and has the connection end once all is answered."""
        self._protocol.leave("The server is about to stop.", self._config.answers_drain_s)
        self._answered_at_s = time.monotonic()
        self._ended.set()

    async def close(self, ending: ConnectionEnd) -> None:
        """Sends the events that wait, as far as the client reads them, and closes the socket."""
        # Nothing more is sent to a client that reads too slowly: the reason would come behind it, and too late.
        unsent = () if self._outbox.overflowed.is_set() else self._outbox.drain()
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # the last: it is closed already
            async with asyncio.timeout(CLOSE_S):
                if ending.code is not None:
                    for message in unsent:
                        await self._websocket.send_text(message)
                    await close(self._websocket, ending.code, ending.reason)

    # --- the five tasks ---

    async def _read(self) -> None:
        bucket = TokenBucket(MAX_MESSAGES_PER_S, 2 * MAX_MESSAGES_PER_S, time.monotonic)
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                await self._inbox.followed()  # its frames are watched, though it has gone
                raise ConnectionEnd(None, str(message.get("reason") or ""))
            self._heard_at_s = time.monotonic()
            if wait_s := bucket.wait_s(1):
                error = RateLimitError(
                    f"More than {MAX_MESSAGES_PER_S:g} messages a second came; send fewer.", retry_after_s=wait_s
                )
                raise ConnectionEnd(1008, str(error), error=error)
            bucket.take(1)
            text = message.get("text")
            if text is None:
                await self._inbox.put_frame(message["bytes"])
            else:
                await self._take_text(text)

    async def _take_text(self, text: str) -> None:
        event = _parsed(text)
        if isinstance(event, ResponseCancel) and self._inbox.holds_pictures_alone:
            self._protocol.handle(event)  # at once, as it may be long before the pictures are watched
        else:
            await self._inbox.put(event, len(text))

    async def _follow(self) -> None:
        while True:
            message = await self._inbox.get()
            if self._inbox.n_dropped:
                self._count_late(self._inbox.n_dropped)
                self._inbox.n_dropped = 0
            if isinstance(message, bytes):
                await self._follow_frame(message)
            elif isinstance(message, ProtocolError):
                self._protocol.refuse(message)
            else:
                await self._follow_event(message)

    async def _write(self) -> None:
        with suppress(WebSocketDisconnect):  # the reading task gets it too
            while True:
                await self._websocket.send_text(await self._outbox.next())
                self._outbox.drop_next()

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LEAVING_TICK_S if self._is_leaving else _TICK_S):
                    await self._ended.wait()
                    self._ended.clear()
            except TimeoutError:
                self._protocol.tick()
            if self._ending is not None:
                await self._follow_rest()
                raise self._ending
            if self._is_leaving and self._has_ended():
                raise ConnectionEnd(1012, "The server is about to stop; connect again in a moment.")
            silent_s = time.monotonic() - self._heard_at_s
            if silent_s > self._config.idle_s and self._inbox.is_followed and not self._protocol.is_waited_for:
                raise ConnectionEnd(1000, f"Nothing was heard of you for {self._config.idle_s:g} s.")

    async def _bound(self) -> None:
        await self._outbox.overflowed.wait()
        raise ConnectionEnd(1008, "You read too slowly: more than a mebibyte of events waits for you.")

    @property
    def _is_leaving(self) -> bool:
        return self._protocol.state is ProtocolState.LEAVING

    async def _follow_rest(self) -> None:
        """Returns when all messages were followed, or after ``CLOSE_S``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._inbox.followed()

    def _has_ended(self) -> bool:
        """Whether all messages were followed and answered, and the client had time to close the connection itself."""
        if self._protocol.is_answering:
            self._answered_at_s = time.monotonic()
            return False
        wait_s = min(_CLOSE_WITHIN_S, self._config.answers_drain_s / 2) if self._protocol.is_extended else 0.0
        return self._inbox.is_followed and time.monotonic() - self._answered_at_s >= wait_s

    # --- what came in ---

    async def _follow_event(self, event: ClientEvent) -> None:
        try:
            if isinstance(event, SourceOpen):
                await check_source(event.url, self._config)
            pictures = await self._pictures(event.images) if isinstance(event, ItemCreate) and event.images else []
        except StreamVlmError as error:
            self._metrics.frame_refused(wire(error).code)
            self._protocol.refuse(error, event.event_id)
            return
        self._protocol.handle(event, pictures)

    async def _pictures(self, urls: Mapping[str, str]) -> list[Timed]:
        """Decodes the pictures of an item, once the key and the stream have room for them: none of them is dropped."""
        await self._meter.frames_in_time(len(urls), sum(map(len, urls.values())) * 3 // 4)
        await self._stream.space()
        pictures = await self._decoder.decode_urls(urls)
        self._meter.owe_frames(len(pictures) - len(urls))
        return pictures

    async def _follow_frame(self, message: bytes) -> None:
        sequence = None
        try:
            if not self._protocol.takes_binary_frames:
                raise UsageError("Binary messages are frames for who says so; send session.streamvlm.binary_frames.")
            frame = FrameMessage.unpack(message)
            sequence = frame.sequence
            if self._inbox.holds_frame and self._stream.is_behind:
                self._count_late(1)  # a newer frame will push it out, and decoding would take the model's time
            elif self._admits(1, len(message)):
                pictures = await self._decoder.decode(frame.picture)
                self._meter.owe_frames(len(pictures) - 1)
                self._protocol.frame(pictures, time_s=frame.time_s, wall_s=frame.captured_s)
        except StreamVlmError as error:
            param = None if sequence is None else f"frame {sequence}"
            fault = error if param is None else in_part(error, "image", param=param)
            self._metrics.frame_refused(wire(fault).code)
            self._protocol.refuse(fault, param=param)

    def _count_late(self, n_frames: int) -> None:
        self._stream.n_lost += n_frames
        self._metrics.frame_refused("late", n_frames)

    def _admits(self, n_frames: int, n_bytes: int) -> bool:
        """Whether the key allows these frames; frames that it does not are dropped and counted, without an error."""
        try:
            self._meter.frames(n_frames, n_bytes)
        except RateLimitError as error:
            self._stream.n_lost += n_frames
            self._metrics.frame_refused(wire(error).code, n_frames)
            return False
        return True


def _parsed(text: str) -> ClientEvent | ProtocolError:
    try:
        return parse(text)
    except ProtocolError as error:
        return error


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Closes a socket; the reason is cut to the size of a close frame."""
    await websocket.close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
