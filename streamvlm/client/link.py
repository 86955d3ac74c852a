"""The connection of a remote session, opened again when it is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from streamvlm.client.errors import RemoteError

TOKEN_HEADER = "streamvlm-resume-token"
_PATH = "/v1/realtime"
_MAX_EVENT_BYTES = 4 << 20
_LEAVING = 1012  # a code that is retried: the server sends it back
_RETRIED_CODES = frozenset({1001, 1005, 1006, 1011, 1012, 1013})
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE_S = 5.0
_GREETED_WITHIN_S = 20.0

Event = dict[str, Any]


def address(url: str, **query: str | None) -> str:
    """Returns the URL of a server's WebSocket, given ``ws://host:8000``, ``http://host:8000/v1`` or the whole URL.

    Raises:
        RemoteError: If it is no URL of a server.
    """
    scheme, netloc, path, given, _ = urlsplit(url)
    secure = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}.get(scheme)
    if secure is None or not netloc:
        raise RemoteError(f"{url!r} names no server; write ws://host:port or wss://host:port.", code="unreachable")
    path = path.rstrip("/")
    if not path.endswith(_PATH):
        path = path.removesuffix("/v1") + _PATH
    added = urlencode({name: value for name, value in query.items() if value is not None})
    return urlunsplit((secure, netloc, path, "&".join(filter(None, (given, added))), ""))


class Link:
    """Keeps a connection to a session.

    Args:
        url: URL of the server.
        key: API key, if the server asks for one.
        setting: ``session.streamvlm`` of every connection.
        session: ``session_id`` and ``resume_token`` of the session; None for a new one.
        reconnect_s: Seconds to try when the connection is lost; 0 gives up at once.

    Attributes:
        session: ``session.streamvlm`` as the server sent it last; has ``session_id``, ``resume_token``, ``time_s`` and
            ``standing``.
        setting: As given; the next connection sends it, so ``fired_after`` has to be kept up to date.
        reconnects: Whether a lost connection is followed by another.
    """

    def __init__(self, url: str, *, key: str | None, setting: Event, session: Event, reconnect_s: float) -> None:
        self.session, self.setting = session, setting
        self.reconnects = reconnect_s > 0
        self._url, self._key, self._reconnect_s = url, key, reconnect_s
        self._socket: ClientConnection | None = None
        self._connected, self._staying = asyncio.Event(), asyncio.Event()
        self._failure: RemoteError | None = None

    async def open(self) -> None:
        """Connects for the first time.

        Raises:
            RemoteError: If the server cannot be reached, or refuses.
        """
        self._socket = await self._connect()
        self._set_ready()

    async def ready(self) -> None:
        """Returns when there is a connection that stays open, for requests of more than one message.

        Raises:
            RemoteError: If the connection is lost for good.
        """
        while not self._staying.is_set():  # it may be lost again before this runs on
            await self._staying.wait()
        if self._failure is not None:
            raise self._failure

    async def send_frame(self, frame: bytes) -> None:
        """Sends a frame once there is a connection; if that is lost meanwhile, over the next one.

        Raises:
            RemoteError: If the connection is lost for good.
        """
        while True:
            await self._connected.wait()
            if self._failure is not None:
                raise self._failure
            socket = self._socket
            assert socket is not None, "a connected link has a socket"
            try:
                await socket.send(frame)
            except ConnectionClosed:
                if self._socket is socket:  # else there is another one already
                    self._set_lost()  # until `events` has connected again
            else:
                return

    async def send_event(self, event: Event) -> None:
        """Sends an event over the connection of now, as the events before it went over that one too.

        The event is sent even if this is cancelled.

        Raises:
            RemoteError: If the connection is lost.
        """
        if self._failure is not None:
            raise self._failure
        if not self._connected.is_set():
            raise RemoteError("The connection is lost.", code="connection_lost")
        assert self._socket is not None, "a connected link has a socket"
        try:
            await self._socket.send(json.dumps(event))
        except ConnectionClosed as closed:
            raise _lost(closed) from closed

    async def events(
        self, lost: Callable[[RemoteError], None], greeting: Callable[[], list[Event]]
    ) -> AsyncIterator[Event]:
        """Yields every event, over all connections.

        Args:
            lost: Called when a connection is lost, whether or not another follows.
            greeting: Returns the events to send first over every further connection.

        Raises:
            RemoteError: When the connection is lost for good; from then on all other methods raise it too.
        """
        try:
            while True:
                assert self._socket is not None, "open first"
                try:
                    while True:
                        yield json.loads(await self._socket.recv())
                except ConnectionClosed as closed:
                    self._set_lost()
                    lost(_lost(closed))
                    if _code(closed) not in _RETRIED_CODES or not self.reconnects:
                        raise _lost(closed) from closed
                    await self._connect_again(_lost(closed), greeting)
                self._set_ready()
        except RemoteError as error:
            self._give_up(error)
            raise

    def expect_end(self) -> None:
        """Lets further requests wait for the next connection, as the server is about to stop."""
        self._staying.clear()

    async def leave_if_expected(self) -> None:
        """Closes a connection whose end is expected, so that the server reads all that was sent first."""
        if not self._staying.is_set() and self._connected.is_set():
            assert self._socket is not None, "a connected link has a socket"
            self._set_lost()
            await self._socket.close(_LEAVING)

    async def close(self) -> None:
        """Closes the connection for good; the server keeps the session for a while."""
        self._give_up(session_left())
        if self._socket is not None:
            await self._socket.close()

    def _set_ready(self) -> None:
        self._connected.set()
        self._staying.set()

    def _give_up(self, error: RemoteError) -> None:
        self._failure = error
        self._set_ready()  # so that no caller waits for ever

    def _set_lost(self) -> None:
        self._connected.clear()
        self._staying.clear()

    async def _connect_again(self, why: RemoteError, greeting: Callable[[], list[Event]]) -> None:
        pause_s, loop = 0.1, asyncio.get_running_loop()
        until_s = loop.time() + self._reconnect_s
        while True:
            try:
                self._socket = await self._connect()
                for event in greeting():
                    await self._socket.send(json.dumps(event))
                return
            except ConnectionClosed:
                pass
            except RemoteError as error:
                if error.code not in ("unreachable", "connection_lost", "model_overloaded", "going_away"):
                    raise
            if loop.time() + pause_s > until_s:
                raise why
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _connect(self) -> ClientConnection:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        if token := self.session.get("resume_token"):
            headers[TOKEN_HEADER] = token
        where = address(self._url, session_id=self.session.get("session_id"))
        try:
            socket = await connect(
                where, additional_headers=headers, compression=None, max_size=_MAX_EVENT_BYTES, proxy=None
            )
        except InvalidStatus as error:
            raise _refused(error) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise RemoteError(
                f"{urlsplit(where).netloc} cannot be reached ({error}); check the address, and that it runs.",
                code="unreachable",
            ) from error
        try:
            async with asyncio.timeout(_GREETED_WITHIN_S):
                await self._introduce(socket)
        except RemoteError:
            await socket.close()
            raise
        except TimeoutError as error:
            socket.transport.abort()  # a silent server would not answer a close frame either
            raise RemoteError(
                f"{urlsplit(where).netloc} took the connection and did not tell of a session within "
                f"{_GREETED_WITHIN_S:g} s; check that it is a StreamVLM server, and not overloaded.",
                code="unreachable",
            ) from error
        except BaseException:
            socket.transport.abort()
            raise
        return socket

    async def _introduce(self, socket: ClientConnection) -> None:
        """Sends the settings of the session, and takes its state from the server."""
        wanted = {"type": "session.update", "session": {"type": "realtime", "streamvlm": self.setting}}
        try:
            with suppress(ConnectionClosed):  # what a server says before it closes can still be read
                await socket.send(json.dumps(wanted))
            while (event := json.loads(await socket.recv()))["type"] != "session.updated":
                if event["type"] == "error":
                    raise error_of(event)
        except ConnectionClosed as closed:
            raise _lost(closed) from closed
        self.session = event["session"]["streamvlm"]
        self.setting["fired_after"] = self.session["fired_after"]


def error_of(event: Event) -> RemoteError:
    """Returns the error of an error event."""
    return RemoteError(event["error"]["message"], code=event["error"]["code"])


def session_left() -> RemoteError:
    """Returns the error for calls that still wait when the session is left."""
    return RemoteError("The session was left.", code="connection_lost")


def _code(closed: ConnectionClosed) -> int:
    return 1006 if closed.rcvd is None else closed.rcvd.code


def _lost(closed: ConnectionClosed) -> RemoteError:
    reason = closed.rcvd.reason if closed.rcvd is not None else ""
    return RemoteError(f"The connection is lost ({_code(closed)}). {reason}".strip(), code="connection_lost")


def _refused(error: InvalidStatus) -> RemoteError:
    status = error.response.status_code
    try:
        body = json.loads(error.response.body)["error"]
        return RemoteError(body["message"], code=body["code"])
    except (ValueError, KeyError, TypeError):
        code = "unreachable" if status in _RETRIED_STATUSES else "refused"
        return RemoteError(f"The server answered {status} instead of opening a WebSocket; check its URL.", code=code)
