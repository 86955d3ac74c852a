"""Errors as HTTP answers, in the words of OpenAI's API."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from streamvlm_server.error_codes import error_object, wire
from streamvlm_server.errors import RateLimitError
from streamvlm_server.service import service_of

logger = logging.getLogger(__name__)

_RETRY_S = {429: 1, 503: 2}
"""Seconds after which a client may try again, by status, where the error does not say."""


def error_response(error: Exception) -> JSONResponse:
    """Returns the answer to a request that met an error."""
    status = wire(error).status
    headers = {}
    if isinstance(error, RateLimitError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif status in _RETRY_S:
        headers["Retry-After"] = str(_RETRY_S[status])
    elif status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == 408:
        headers["Connection"] = "close"  # else the rest of the request would be waited for
    return JSONResponse({"error": error_object(error)}, status, headers)


async def reply_to_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answers a request, or the opening of a WebSocket, that met an error meant for the client."""
    service_of(connection).metrics.refused(wire(error).code)
    return await _send(connection, error_response(error))


async def reply_to_http_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answers a request that the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException), error
    body = {"message": f"{error.detail}: {connection.url.path}", "type": "invalid_request_error", "param": None}
    code = error.detail.lower().replace(" ", "_")
    response = JSONResponse({"error": {**body, "code": code}}, error.status_code, dict(error.headers or {}))
    return await _send(connection, response)


async def _send(connection: HTTPConnection, response: JSONResponse) -> Response | None:
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
        return None
    return response


def listed(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a list in the words of OpenAI's API."""
    return {"object": "list", "data": objects}


async def reply_to_bug(request: Request, error: Exception) -> Response:
    """Answers a request that met a bug; what it was, only the log says."""
    logger.error("a request failed: %s", request.url.path, exc_info=error)
    service_of(request).metrics.refused(wire(error).code)
    return error_response(error)
