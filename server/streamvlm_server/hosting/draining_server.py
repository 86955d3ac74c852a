"""Runs the app on uvicorn: its sockets, its TLS, and how it stops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from streamvlm.errors import UsageError
from streamvlm_server.config import ServerConfig
from streamvlm_server.hosting.slow_reader_timeout import SlowReaderTimeoutProtocol
from streamvlm_server.hosting.slow_request_timeout import SlowRequestTimeoutProtocol
from streamvlm_server.realtime.connection import CLOSE_S
from streamvlm_server.service import Service

_BASE64_AND_JSON = 4 / 3 * 1.05
_LINGER_S = round(CLOSE_S) + 1


class DrainingServer(uvicorn.Server):
    """Stops in order: after the first SIGTERM or SIGINT it waits for what runs, after the second for nothing.

    Args:
        app: As ``build_app`` makes it.
        config: Configuration of the same server.
        on_ready: Called when the server takes requests.
    """

    def __init__(self, app: Starlette, config: ServerConfig, *, on_ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(_uvicorn(app, config))
        self._on_ready = on_ready
        self._service: Service = app.state.service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = asyncio.Event()
        self._ends_at_s = 0.0

    @property
    def time_left_s(self) -> float:
        """Seconds that are left for the stop; 0 after a second signal."""
        return 0.0 if self.force_exit else max(0.0, self._ends_at_s - time.monotonic())

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until the server is stopped; returns when everything has ended."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._stop_when_asked())
            await tasks.create_task(super().serve(sockets))
            stopping.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens the sockets, and calls ``on_ready``."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def stop(self) -> None:
        """Begins to stop; from any thread."""
        assert self._loop is not None, "a server that does not serve cannot stop"
        self._loop.call_soon_threadsafe(self._stop_asked.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal; uvicorn's own handler would close every WebSocket at once, and exit as if killed."""
        if self._stop_asked.is_set():
            self.should_exit = self.force_exit = True
        else:
            self.stop()

    async def _stop_when_asked(self) -> None:
        await self._stop_asked.wait()
        config = self._service.config
        self._ends_at_s = time.monotonic() + config.drain_s
        await self._service.drain.finish(config.answers_drain_s)
        self.should_exit = True


def listen(config: ServerConfig) -> socket.socket:
    """Opens the port.

    Raises:
        UsageError: If it cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        opened = socket.create_server((config.host, config.port), family=family, backlog=1024)
    except OSError as error:
        raise UsageError(
            f"{config.host}:{config.port} cannot be listened on ({error.strerror or error}); choose another --port."
        ) from error
    # Connections inherit it; asyncio sets it by itself only on sockets that name their protocol, which this does not.
    # Without it every answer of two packets waits 40 ms for the client's acknowledgement of the first.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def check_tls(config: ServerConfig) -> None:
    """Loads certificate and key once, so that a mistake is found before the model is loaded.

    Raises:
        UsageError: If they cannot be read, or do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:
        raise UsageError(
            f"The certificate {config.tls_cert} and key {config.tls_key} cannot be used ({error.strerror or error}); "
            "check the files."
        ) from error


def _uvicorn(app: Starlette, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=partial(SlowRequestTimeoutProtocol, within_s=config.request_timeout_s),  # type: ignore[arg-type]  # no class, but makes one
        ws=SlowReaderTimeoutProtocol,
        ws_per_message_deflate=False,  # costs much, and pictures do not get smaller
        ws_max_size=int(config.max_picture * _BASE64_AND_JSON) + 65_536,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LINGER_S,
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
    )
