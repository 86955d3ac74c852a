"""Waits, on the event loop, for space in a session's frame queue, which the engine's thread reports."""

from __future__ import annotations

import asyncio
import contextlib

from streamvlm.engine.live_session import LiveSession


async def queue_space(session: LiveSession) -> None:
    """Returns when a frame that is to be kept may be offered, or when the session has failed, as ``offer`` says."""
    loop, has_space = asyncio.get_running_loop(), asyncio.Event()

    def on_space() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the wait
            loop.call_soon_threadsafe(has_space.set)

    session.when_room(on_space)
    await has_space.wait()
