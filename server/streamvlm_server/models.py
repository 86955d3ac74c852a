"""``/v1/models``: the one model that is served."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamvlm_server.error_replies import listed
from streamvlm_server.errors import ModelNotFoundError
from streamvlm_server.service import Service, service_of


async def list_models(request: Request) -> Response:
    """Lists the models."""
    return JSONResponse(listed([_card(service_of(request))]))


async def show_model(request: Request) -> Response:
    """Shows one model."""
    card, name = _card(service_of(request)), request.path_params["name"]
    if name != card["id"]:
        raise ModelNotFoundError(f"The model {name[:80]!r} is not served here; name {card['id']!r}.", param="model")
    return JSONResponse(card)


def _card(service: Service) -> dict[str, Any]:
    model = service.engine.model
    return {"id": model.name, "object": "model", "created": service.metrics.started_unix_s, "owned_by": model.family}
