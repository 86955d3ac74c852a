"""Errors and objects as OpenAI's API words them."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from streamvlm_server.errors import RateLimitError, error_object, wire
from streamvlm_server.service import service_of

logger = logging.getLogger(__name__)

_RETRY_S = {429: 1, 503: 2}
"""When a client may try again, by status, where the error does not know better."""


def error_response(error: Exception) -> JSONResponse:
    """The answer that tells an error."""
    status = wire(error).status
    headers = {}
    if isinstance(error, RateLimitError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif status in _RETRY_S:
        headers["Retry-After"] = str(_RETRY_S[status])
    elif status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == 408:
        headers["Connection"] = "close"  # or the rest of the request would be waited for
    return JSONResponse({"error": error_object(error)}, status, headers)


async def tell_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Tells an error to whoever made the request, or wants to open a WebSocket."""
    service_of(connection).metrics.refused(wire(error).code)
    return await _tell(connection, error_response(error))


async def tell_http_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """The same for what the router refuses: no such path, no such method."""
    assert isinstance(error, HTTPException), error
    told = {"message": f"{error.detail}: {connection.url.path}", "type": "invalid_request_error", "param": None}
    code = error.detail.lower().replace(" ", "_")
    response = JSONResponse({"error": {**told, "code": code}}, error.status_code, dict(error.headers or {}))
    return await _tell(connection, response)


async def _tell(connection: HTTPConnection, response: JSONResponse) -> Response | None:
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
        return None
    return response


def listed(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """A list, as OpenAI's API has it."""
    return {"object": "list", "data": objects}


async def tell_bug(request: Request, error: Exception) -> Response:
    """Tells that something failed in here, and nothing else; the log has the rest."""
    logger.error("a request failed: %s", request.url.path, exc_info=error)
    service_of(request).metrics.refused(wire(error).code)
    return error_response(error)
