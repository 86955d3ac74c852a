"""What every request passes: a name for the log first, and under ``/v1`` origin, key and whether there is time left."""

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
    """Gives every HTTP request an id, its client's or a new one, says it in the answer, and logs one line for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        began_s, status = time.monotonic(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with about(request_id=request_id):
            try:
                await self._app(scope, receive, told)
            finally:
                took_s = time.monotonic() - began_s
                # A WebSocket tells of itself; health checks come too often to be told of.
                level = logging.INFO if scope["path"].startswith("/v1/") else logging.DEBUG
                if scope["type"] == "http":
                    logger.log(level, "%s %s -> %d in %.3f s", scope["method"], scope["path"], status, took_s)


class RequestGuard:
    """Lets in who may come in; ``connection.state.principal`` is who it is, from then on.

    What is refused is raised, for the app's error handlers to tell: over HTTP, and to a WebSocket before it opens.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or raises why not."""
        headers = {name.lower(): value for name, value in Headers(scope=scope).items()}
        service = self._service
        if scope.get("method") == "OPTIONS":  # a browser asks what it may send; the answer holds nothing
            await self._app(scope, receive, send)
            return
        check_origin(headers, service.config.allowed_origins, service.keys)
        scope.setdefault("state", {})["principal"] = service.keys.authenticate(headers)
        if scope["type"] == "websocket":  # stays for long, and says itself what it takes to end
            service.drain.check()
            await self._app(scope, receive, send)
            return
        with service.drain.running():
            await self._app(scope, receive, send)
