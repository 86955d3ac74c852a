"""What every request passes: first a log with an id, then under ``/v1`` the checks of origin, key and draining."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamvlm_server.access.keys import check_origin
from streamvlm_server.monitoring.logs import about
from streamvlm_server.service import Service

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[!-~]{1,64}")


class RequestLog:
    """Gives every request an id, its client's or a new one; an HTTP answer carries it, and is logged in one line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        with about(request_id=request_id):
            if scope["type"] == "http":
                await self._log(request_id, scope, receive, send)
            else:  # a WebSocket is logged by its endpoint
                await self._app(scope, receive, send)

    async def _log(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        began_s, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            took_s = time.monotonic() - began_s
            level = logging.INFO if scope["path"].startswith("/v1/") else logging.DEBUG  # health checks are frequent
            logger.log(level, "%s %s -> %d in %.3f s", scope["method"], scope["path"], status, took_s)


class RequestGuard:
    """Lets in requests of allowed origins with a known key; its owner is ``connection.state.principal`` from then on.

    A refusal is raised, and the app's error handlers answer it: over HTTP, and to a WebSocket before it opens.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or raises why not."""
        headers = {name.lower(): value for name, value in Headers(scope=scope).items()}
        service = self._service
        if scope.get("method") == "OPTIONS":  # a browser asks what it may send; the answer has no content
            await self._app(scope, receive, send)
            return
        check_origin(headers, service.config.allowed_origins, service.keys)
        scope.setdefault("state", {})["principal"] = service.keys.authenticate(headers)
        if scope["type"] == "websocket":  # it stays long, and tells the drain itself how to end it
            service.drain.check()
            await self._app(scope, receive, send)
            return
        with service.drain.running():
            await self._app(scope, receive, send)
