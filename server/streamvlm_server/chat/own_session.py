"""A session for one chat request alone: it watches the media of the request, and is closed after the answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from streamvlm.engine.live_session import LiveSession
from streamvlm.errors import StreamVlmError
from streamvlm.frame import Picture
from streamvlm_server.access.keys import Principal
from streamvlm_server.chat.answer_stream import AsyncAnswerStream
from streamvlm_server.chat.media import FrameReader, Media, MediaLoader
from streamvlm_server.chat.request import Shown
from streamvlm_server.errors import MediaFetchError, TooLargeError
from streamvlm_server.queue_space import queue_space
from streamvlm_server.service import Service

MAX_EARLIER = 16
"""Most earlier turns of a request whose questions are asked again; no model sees more of a dialogue."""


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The media of a user's message, and its question; ``question`` is empty where there is none."""

    media: Sequence[Shown]
    question: str


@asynccontextmanager
async def own_session(
    service: Service, principal: Principal, turns: Sequence[UserTurn], fps: float
) -> AsyncIterator[tuple[LiveSession, Sequence[str]]]:
    """Opens a session for a request, lets it watch all media, and asks all questions but the last.

    Earlier questions are asked again, so that the last may refer to them, but not those before the first media.

    Args:
        service: Opens the session; its configuration bounds it.
        principal: Sender of the request.
        turns: Turns of the request.
        fps: Frames to sample from a second of video.

    Yields:
        The session, and the warnings about the videos.

    Raises:
        StreamVlmError: If the media cannot be fetched, read or watched in time, or no session becomes free.
    """
    reader, limit_s = FrameReader(service, fps), service.config.watch_timeout_s
    with principal.meter.session(), tempfile.TemporaryDirectory(prefix="streamvlm-") as folder:
        loader = MediaLoader(service, Path(folder), fps)
        async with _within(limit_s, lambda: _not_come(limit_s)):
            media = [[await loader.load(part) for part in turn.media] for turn in turns]
        principal.meter.frames(loader.n_pictures, loader.n_bytes)
        async with _temporary_session(service, principal.owner, loader.n_bytes) as session:
            async with _within(limit_s, lambda: _not_watched(reader.n_frames, limit_s)):
                await _go_through(session, reader, turns, media)
            principal.meter.owe_frames(reader.n_frames - loader.n_pictures)
            yield session, reader.warnings


@asynccontextmanager
async def _temporary_session(service: Service, owner: str, n_bytes: int) -> AsyncIterator[LiveSession]:
    """Opens a temporary session, once one is free; ``n_bytes`` of media are held meanwhile."""

    async def opened() -> LiveSession:
        opening = asyncio.ensure_future(
            service.session_leases.open_or_evict(lambda: service.engine.open(owner=owner, is_temporary=True))
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait([opening])  # it opens even when the client goes away meanwhile, and is then closed
            if opening.exception() is None:
                await asyncio.to_thread(opening.result().close)
            raise

    session = await service.admission_queue.admit(owner, n_bytes, opened)
    try:
        yield session
    finally:
        await asyncio.shield(asyncio.to_thread(session.close))
        service.admission_queue.notify()


async def _go_through(
    session: LiveSession, reader: FrameReader, turns: Sequence[UserTurn], media: Sequence[Sequence[Media]]
) -> None:
    for to_come, (turn, shown) in enumerate(zip(turns, media, strict=True), 1 - len(turns)):
        await _show(session, reader.frames(shown))
        if turn.question and reader.n_frames and -MAX_EARLIER <= to_come < 0:
            async for _ in AsyncAnswerStream(session, turn.question):
                pass


async def _show(session: LiveSession, frames: Generator[tuple[float, Picture], None, None]) -> None:
    """Offers frames to a session, each decoded on a thread once the session has room for it."""
    with closing(frames):
        while True:
            await queue_space(session)
            decoding = asyncio.ensure_future(asyncio.to_thread(next, frames, None))
            try:
                decoded = await asyncio.shield(decoding)
            finally:
                await asyncio.wait([decoding])  # while it decodes a frame, the generator cannot be closed
            if decoded is None:
                return
            time_s, picture = decoded
            session.offer(picture, time_s=time_s, keep=True)


@asynccontextmanager
async def _within(limit_s: float, refusal: Callable[[], StreamVlmError]) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise refusal() from None


def _not_come(limit_s: float) -> MediaFetchError:
    return MediaFetchError(
        f"The media of the request did not all come within {limit_s:g} s; send fewer, or as data URLs."
    )


def _not_watched(n_frames: int, limit_s: float) -> TooLargeError:
    return TooLargeError(
        f"No more than {n_frames} frames could be watched within {limit_s:g} s; send less video, or take a lower fps."
    )
