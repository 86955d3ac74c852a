"""``/v1/sessions``: lists sessions, shows what each remembers, and deletes them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamvlm.archive.session_folders import SessionInfo
from streamvlm.engine.live_session import LiveSession
from streamvlm_server.error_replies import listed
from streamvlm_server.errors import RequestError, ThumbnailNotFoundError
from streamvlm_server.service import principal_of, service_of


async def list_sessions(request: Request) -> Response:
    """Lists all sessions of the owner, the last used first."""
    engine, owner = service_of(request).engine, principal_of(request).owner
    found = await asyncio.to_thread(engine.sessions, owner=owner)
    return JSONResponse(listed([_card(info) for info in found]))


async def show_session(request: Request) -> Response:
    """Shows one session and its statistics."""
    session = await _find(request)
    return JSONResponse({"id": session.id, "object": "session", **asdict(session.stats())})


async def delete_session(request: Request) -> Response:
    """Closes a session, and deletes its memory."""
    engine, owner, session_id = service_of(request).engine, principal_of(request).owner, request.path_params["id"]
    await asyncio.to_thread(engine.delete, session_id, owner=owner)
    return JSONResponse({"id": session_id, "object": "session.deleted", "deleted": True})


async def show_timeline(request: Request) -> Response:
    """Shows blocks and gate decisions of a span of the stream, ``?start_s=…&stop_s=…``, by default of all of it."""
    start_s, stop_s = _time(request, "start_s", 0.0), _time(request, "stop_s", math.inf)
    session = await _find(request)
    timeline = await asyncio.to_thread(session.timeline, start_s, stop_s)
    blocks = [
        {
            "id": block.id,
            "start_s": block.start_s,
            "end_s": block.end_s,
            "fidelity": block.fidelity,
            "score": block.score,
            "thumbnail": f"/v1/sessions/{session.id}/thumbnails/{block.id}",
        }
        for block in timeline.blocks
    ]
    decisions = [{"time_s": d.time_s, "fidelity": d.fidelity, "score": d.score} for d in timeline.decisions]
    return JSONResponse({"id": session.id, "object": "timeline", "blocks": blocks, "decisions": decisions})


async def show_thumbnail(request: Request) -> Response:
    """Sends a small JPEG of a block's frame."""
    session, block = await _find(request), request.path_params["block"]
    jpeg = await asyncio.to_thread(session.thumbnail, block)
    if jpeg is None:
        raise ThumbnailNotFoundError(f"There is no picture of block {block} on disk; is the server run with --home?")
    # A block's frame never changes, and only the client may cache it.
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400, immutable"})


async def _find(request: Request) -> LiveSession:
    owner = principal_of(request).owner
    return await service_of(request).session_leases.find(request.path_params["id"], owner=owner)


def _card(info: SessionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "object": "session",
        "owner": info.owner,
        "is_open": info.is_open,
        "used_unix_s": info.used_unix_s,
    }


def _time(request: Request, name: str, default: float) -> float:
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        time_s = float(given)
    except ValueError:
        time_s = math.nan
    if math.isnan(time_s):
        raise RequestError(f"{name} is {given[:40]!r}; give seconds of the stream.", param=name)
    return time_s
