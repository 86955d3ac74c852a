"""The media of a chat request: fetched first, then decoded to frames one by one, as they are watched."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamvlm.frame import Picture
from streamvlm.ingest.sampling import sample
from streamvlm.ingest.source import open_upload
from streamvlm.readable import size
from streamvlm_server.chat.request import Shown
from streamvlm_server.errors import MediaFetchError, MediaUrlError, TooLargeError, of_part
from streamvlm_server.service import Service
from streamvlm_server.untrusted.data_url import decode_base64, is_data_url, parse_data_url
from streamvlm_server.untrusted.fetch import Fetched
from streamvlm_server.untrusted.picture import open_still

STILL_S = 1.0
"""Seconds of stream time that a picture lasts."""


@dataclass(frozen=True, slots=True)
class Stills:
    """Encoded pictures, ``every_s`` apart, and the part of the request that they came in.

    An animation among them is a short video in its place.
    """

    encoded: Sequence[bytes]
    every_s: float
    part: Shown


@dataclass(frozen=True, slots=True)
class Film:
    """A video in a file, the part of the request that it came in, and whether all of it came."""

    path: Path
    part: Shown
    is_whole: bool


Media = Stills | Film


class MediaLoader:
    """Fetches or decodes the media of one request, within the bounds of a request.

    Args:
        service: Fetches media; its configuration has the bounds.
        folder: Folder for videos.
        fps: Frames in a second of video.

    Attributes:
        n_bytes: Encoded bytes so far.
        n_pictures: Pictures so far, without those in video files.
    """

    def __init__(self, service: Service, folder: Path, fps: float) -> None:
        self._service, self._folder, self._fps = service, folder, fps
        self.n_bytes = self.n_pictures = 0

    async def load(self, part: Shown) -> Media:
        """Loads one picture or video.

        Raises:
            PartError: If it cannot be read, may not be fetched, or is too large.
            TooLargeError: If all of it together is too large.
        """
        with of_part(part.param, part.medium):
            if part.medium == "image":
                fetched = await self._fetched(part.url, self._service.config.max_picture)
                if not fetched.is_whole:
                    raise MediaFetchError("The picture's host broke off; try again, or send it as a data URL.")
                encoded, every_s = [fetched.data], STILL_S
            elif (frames := _frames(part.url)) is not None:
                encoded, every_s = await self._decoded(frames), 1 / self._fps
            else:
                return await self._film(part)
        self._count(sum(map(len, encoded)), len(encoded))
        return Stills(encoded, every_s, part)

    async def _decoded(self, frames: list[str]) -> list[bytes]:
        config = self._service.config
        if len(frames) > config.max_frames:
            raise too_many_frames(config.max_frames)
        decode = partial(decode_base64, max_bytes=config.max_picture)
        return await asyncio.to_thread(lambda: [decode(frame) for frame in frames])

    async def _film(self, part: Shown) -> Film:
        fetched = await self._fetched(part.url, self._service.config.max_video)
        self._count(len(fetched.data), 0)
        path = self._folder / f"video-{self.n_bytes}"  # a name of its own, as the bytes only grow
        await asyncio.to_thread(path.write_bytes, fetched.data)
        return Film(path, part, fetched.is_whole)

    async def _fetched(self, url: str, max_bytes: int) -> Fetched:
        if is_data_url(url):
            payload = parse_data_url(url).payload
            return Fetched(await asyncio.to_thread(decode_base64, payload, max_bytes=max_bytes))
        if "://" not in url[:32]:
            raise MediaUrlError("The media URL has no scheme; write data:image/jpeg;base64,… or https://host/path.")
        return await self._service.fetcher.fetch(url.strip(), max_bytes=max_bytes)

    def _count(self, n_bytes: int, n_pictures: int) -> None:
        self.n_bytes += n_bytes
        self.n_pictures += n_pictures
        config = self._service.config
        if self.n_bytes > config.max_body:
            raise TooLargeError(f"The media has more than {size(config.max_body)} altogether; send less.")
        if self.n_pictures > config.max_frames:
            raise too_many_frames(config.max_frames)


def _frames(url: str) -> list[str] | None:
    """Splits a video that is sent as pictures, base64 with commas between, as for vLLM; None for any other."""
    if not is_data_url(url):
        return None
    parsed = parse_data_url(url)
    return parsed.payload.split(",") if parsed.media_type == "video/jpeg" or "," in parsed.payload else None


def too_many_frames(most: int) -> TooLargeError:
    """Returns the error for a request with more frames than allowed."""
    return TooLargeError(f"The request has more than {most} frames; send less video, or take a lower fps.")


class FrameReader:
    """Decodes media to frames, in order, on the thread of the caller.

    Args:
        service: Its configuration has the bounds.
        fps: Frames to sample from a second of video.

    Attributes:
        n_frames: Frames decoded so far.
        warnings: Warnings about videos and animations, such as an early end.
    """

    def __init__(self, service: Service, fps: float) -> None:
        self._bounds, self._most, self._fps = service.bounds, service.config.max_frames, fps
        self._next_s = 0.0
        self.n_frames = 0
        self.warnings: list[str] = []

    def frames(self, media: Sequence[Media]) -> Generator[tuple[float, Picture], None, None]:
        """Yields stream times and pictures of the next media, after those of earlier media in time.

        Raises:
            PartError: If one cannot be read or is too large.
            TooLargeError: If there are too many frames.
        """
        for medium in media:
            for time_s, picture in self._stills(medium) if isinstance(medium, Stills) else self._film(medium):
                if self.n_frames == self._most:
                    raise too_many_frames(self._most)
                self.n_frames += 1
                yield time_s, picture

    def _stills(self, stills: Stills) -> Iterator[tuple[float, Picture]]:
        for data in stills.encoded:
            with of_part(stills.part.param, stills.part.medium):
                yield from self._still(data, stills.every_s)

    def _still(self, data: bytes, every_s: float) -> Iterator[tuple[float, Picture]]:
        from_s = self._next_s
        reader = open_still(data, self._bounds)
        for time_s, decoded in sample(reader, self._fps):
            yield from_s + time_s, decoded()
            self._next_s = from_s + time_s + every_s
        if reader.warning is not None:
            self.warnings.append(reader.warning)
        self._next_s = max(self._next_s, from_s + (reader.duration_s or 0.0))

    def _film(self, film: Film) -> Iterator[tuple[float, Picture]]:
        from_s, max_px = self._next_s, self._bounds.max_px
        with (
            of_part(film.part.param, film.part.medium),
            open_upload(film.path, name="The video", fps=self._fps, max_px=max_px) as source,
        ):
            for frame in source:
                yield from_s + frame.time_s, frame.picture
                self._next_s = from_s + frame.time_s + 1 / self._fps
            if source.warning is not None:
                self.warnings.append(source.warning)
            elif not film.is_whole:
                self.warnings.append("The video's host broke off; what had come of it was watched.")
