"""The app: its routes, and the parts that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from streamvlm.archive.compute_threads import compute_alone
from streamvlm.engine.engine import Engine
from streamvlm.errors import StreamVlmError
from streamvlm_server.access.keys import load_keys
from streamvlm_server.chat.admission_queue import AdmissionQueue
from streamvlm_server.chat.endpoint import chat_completions
from streamvlm_server.config import ServerConfig
from streamvlm_server.error_replies import reply_to_bug, reply_to_error, reply_to_http_error
from streamvlm_server.health import healthz, metrics, readyz
from streamvlm_server.hosting.drain import Drain
from streamvlm_server.models import list_models, show_model
from streamvlm_server.monitoring.metrics import Metrics
from streamvlm_server.realtime.endpoint import Realtime
from streamvlm_server.request_guard import REQUEST_ID, RequestGuard, RequestLog
from streamvlm_server.service import Service
from streamvlm_server.session_leases import SessionLeases
from streamvlm_server.sessions import delete_session, list_sessions, show_session, show_thumbnail, show_timeline
from streamvlm_server.untrusted.fetch import MediaFetcher

_CLIENT_CLOSED_REQUEST = 499
_N_THREADS = 16
_WAITING_BODIES = 4
"""Bodies of the largest size that waiting requests may hold, all of them together."""


async def _no_reply(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


_HANDLERS: dict[Any, Any] = {  # Starlette's type does not allow a handler of both requests and WebSockets
    StreamVlmError: reply_to_error,
    HTTPException: reply_to_http_error,
    ClientDisconnect: _no_reply,
    Exception: reply_to_bug,
}


def build_app(engine: Engine, config: ServerConfig) -> Starlette:
    """Builds the app over a running engine; the caller closes the engine after the app has ended.

    Raises:
        UsageError: If the keys file cannot be read.
    """
    admission_queue = AdmissionQueue(config.max_waiting, _WAITING_BODIES * config.max_body, config.queue_timeout_s)
    service = Service(
        engine=engine,
        config=config,
        keys=load_keys(config.keys_file),
        drain=Drain(),
        fetcher=MediaFetcher(config),
        metrics=Metrics(engine, admission_queue),
        session_leases=SessionLeases(engine, config.linger_s),
        admission_queue=admission_queue,
    )
    realtime = Realtime(service)
    api = [
        *realtime.routes,
        Route("/models", list_models),
        Route("/models/{name:path}", show_model),
        Route("/chat/completions", chat_completions, methods=["POST"]),
        Route("/sessions", list_sessions),
        Route("/sessions/{id}", show_session),
        Route("/sessions/{id}", delete_session, methods=["DELETE"]),
        Route("/sessions/{id}/timeline", show_timeline),
        Route("/sessions/{id}/thumbnails/{block:int}", show_thumbnail),
    ]
    app = Starlette(
        routes=[
            Mount("/v1", routes=api, middleware=[Middleware(RequestGuard, service=service)]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        middleware=_middleware(config),
        exception_handlers=_HANDLERS,
        lifespan=_lifespan,
    )
    app.state.service, app.state.realtime = service, realtime
    return app


def _middleware(config: ServerConfig) -> list[Middleware]:
    if not config.allowed_origins:
        return [Middleware(RequestLog)]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=config.allowed_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=[REQUEST_ID],
    )
    return [Middleware(RequestLog), cors]


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: Service = app.state.service
    # Threads beside the engine's, which has the cores.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_N_THREADS, "server", compute_alone))
    realtime: Realtime = app.state.realtime
    async with service.metrics.watching_loop(), realtime.running():
        yield
    await service.fetcher.close()
