"""Reads the body of a request within bounds, and cancels work when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from streamvlm.readable import size
from streamvlm_server.errors import TooLargeError, TooSlowError

T = TypeVar("T")


async def read_body(request: Request, max_bytes: int, *, within_s: float) -> bytes:
    """Reads the body of a request.

    Raises:
        TooLargeError: If it has more than ``max_bytes``; at once, if its header says so.
        TooSlowError: If it has not come within ``within_s``.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _read(request, max_bytes)
    except TimeoutError:
        raise TooSlowError(
            f"The request did not come within {within_s:g} s; send less, or over a faster line."
        ) from None


async def _read(request: Request, max_bytes: int) -> bytes:
    stated = request.headers.get("content-length", "")
    body = bytearray()
    if not (stated.isdecimal() and int(stated) > max_bytes):
        async for piece in request.stream():
            body += piece
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    raise TooLargeError(f"The request has more than the {size(max_bytes)} allowed; send less.")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Awaits work for a request whose body was read; cancels it when the client goes away.

    Raises:
        ClientDisconnect: If the client went away.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
