"""``/v1/realtime``: accepts WebSockets and leases each a session, which outlives it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamvlm_server.error_codes import wire
from streamvlm_server.errors import ModelNotFoundError
from streamvlm_server.monitoring.logs import about
from streamvlm_server.realtime.connection import Connection, close
from streamvlm_server.realtime.engine_stream import EngineStream
from streamvlm_server.realtime.schema import schema
from streamvlm_server.realtime.server_events import ErrorEvent
from streamvlm_server.service import Service, principal_of
from streamvlm_server.session_leases import TAKEN_OVER
from streamvlm_server.untrusted.picture_threads import PictureDecoder
from streamvlm_server.untrusted.source_url import admit

logger = logging.getLogger(__name__)

SUBPROTOCOL = "realtime"
TOKEN_HEADER = "streamvlm-resume-token"
TOKEN_SUBPROTOCOL = f"{TOKEN_HEADER}."
"""Prefix of the token as a subprotocol: browsers cannot set headers, and a token in the URL would be logged."""


class Realtime:
    """The endpoint of a service; it serves within ``running``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._decoder = PictureDecoder(service.bounds)

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the endpoint."""
        return [WebSocketRoute("/realtime", self.connect), Route("/realtime/schema.json", self.show_schema)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Closes sessions that no client comes back to, as long as the server runs."""
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(self._service.session_leases.close_expired())
            yield
            closing.cancel()
        self._decoder.close()

    async def show_schema(self, request: Request) -> Response:
        """Sends the schema of every event."""
        return JSONResponse(schema())

    async def connect(self, websocket: WebSocket) -> None:
        """Serves one client that has passed the guard."""
        offered = websocket.scope["subprotocols"]
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            await self._serve(websocket)
        except WebSocketDisconnect:
            self._service.metrics.ws_closed(1006)
        except Exception as error:
            if wire(error).code == "internal_error":
                logger.exception("a connection failed")
            await self._refuse(websocket, error)

    async def _serve(self, websocket: WebSocket) -> None:
        service, principal = self._service, principal_of(websocket)
        self._check_model(websocket.query_params.get("model"))
        ends: list[Connection] = []  # the connection, once there is one

        def leave() -> None:
            for connection in ends:
                connection.end(1008, TAKEN_OVER)

        session_id = websocket.query_params.get("session_id")
        if session_id is None:
            principal.meter.check_sessions()  # before one is made, for which another may have to be closed
        lease = service.session_leases.lease(
            session_id,
            owner=principal.owner,
            token=_token(websocket),
            taken_over=leave,
        )
        async with lease as (session, token):
            with (
                principal.meter.session()
            ):  # not before: a client that comes back would be counted beside its own old connection
                stream = EngineStream(
                    session,
                    principal.meter,
                    service.metrics,
                    admit=partial(admit, config=service.config),
                    max_kept_bytes=service.config.max_video,
                )
                connection = Connection(
                    websocket,
                    stream,
                    model=service.engine.model.name,
                    token=token,
                    decoder=self._decoder,
                    meter=principal.meter,
                    metrics=service.metrics,
                    config=service.config,
                )
                ends.append(connection)
                with about(session_id=session.id), service.drain.running(connection.go_away):
                    logger.info("connected")
                    ending = await connection.serve()
                    logger.info("disconnected: %s %s", ending.code or "by the client", ending.reason)
        service.metrics.ws_closed(ending.code or 1000)
        await connection.close(ending)

    def _check_model(self, model: str | None) -> None:
        name = self._service.engine.model.name
        if model not in (None, name):
            raise ModelNotFoundError(f"The model {str(model)[:80]!r} is not served here; name {name!r}.", param="model")

    async def _refuse(self, websocket: WebSocket, error: Exception) -> None:
        """Sends what went wrong twice: as an event, and as the reason of the close."""
        event, line = ErrorEvent.of(error), wire(error)
        self._service.metrics.refused(line.code)
        self._service.metrics.ws_closed(line.close)
        try:
            await websocket.send_text(event.model_dump_json())
            await close(websocket, line.close, event.error.message)
        except (WebSocketDisconnect, RuntimeError):
            logger.debug("the client had gone before the error %s could be sent", line.code)


def _token(websocket: WebSocket) -> str | None:
    """Returns the token that a client sends to take a session up again."""
    if token := websocket.headers.get(TOKEN_HEADER):
        return token
    offered: list[str] = websocket.scope["subprotocols"]
    return next((item.removeprefix(TOKEN_SUBPROTOCOL) for item in offered if item.startswith(TOKEN_SUBPROTOCOL)), None)
