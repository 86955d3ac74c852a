"""Room for frames, for asyncio: a session's worker tells of it on its own thread, and here it is awaited."""

from __future__ import annotations

import asyncio
import contextlib

from streamvlm.engine.live_session import LiveSession


async def room_in(session: LiveSession) -> None:
    """Returns when a frame that is to be kept may be offered, or when the session can take no more and will say so."""
    loop, is_there = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(is_there.set)

    session.when_room(tell)
    await is_there.wait()
