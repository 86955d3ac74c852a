"""``/healthz``, ``/readyz`` and ``/metrics``: whether the server runs, whether it takes requests, and its metrics."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamvlm_server.monitoring.metrics import CONTENT_TYPE
from streamvlm_server.service import service_of

LONGEST_STEP_S = 60.0


async def healthz(request: Request) -> Response:
    """Answers, as the process runs."""
    return JSONResponse({"status": "ok", "version": version("streamvlm")})


async def readyz(request: Request) -> Response:
    """Answers whether requests are taken; 503 with the reasons if the engine has failed or the server is to stop."""
    service = service_of(request)
    reasons = []
    if service.drain.is_draining:
        reasons.append("the server is about to stop")
    if service.engine.failure is not None:
        reasons.append(str(service.engine.failure))
    if (step_s := service.engine.stats().step_s) > LONGEST_STEP_S:
        reasons.append(f"the engine has been at one step for {step_s:.0f} s")
    body = {"status": "unavailable" if reasons else "ready", "reasons": reasons}
    return JSONResponse(body, 503 if reasons else 200)


async def metrics(request: Request) -> Response:
    """Sends the metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.exposition(), media_type=CONTENT_TYPE)
