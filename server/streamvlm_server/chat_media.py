"""From the media of a chat request to frames: fetched first, then decoded one by one while they are watched."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamvlm.errors import PictureError
from streamvlm.frame import Picture
from streamvlm.ingest.sampling import sample
from streamvlm.ingest.source import open_upload
from streamvlm_server.chat_request import ImagePart, MediaPart
from streamvlm_server.errors import TooLargeError
from streamvlm_server.media import decode_base64, open_still, parse_data_url
from streamvlm_server.service import Service

STILL_S = 1.0
"""How long a picture lasts, in stream time."""

_JPEGS = "video/jpeg"


@dataclass(frozen=True, slots=True)
class Stills:
    """Encoded pictures, ``every_s`` apart; an animation among them is a short video in its place."""

    encoded: Sequence[bytes]
    every_s: float


@dataclass(frozen=True, slots=True)
class Film:
    """A video in a file."""

    path: Path


Medium = Stills | Film


class MediaLoader:
    """Gets the media of one request, all together within the bounds of a request.

    Args:
        service: Fetches, and says how much is allowed.
        folder: Where videos are put.
        fps: Frames in a second of video.

    Attributes:
        n_bytes: Of what was got so far, encoded.
        n_pictures: Pictures among it; those in video files are not counted.
    """

    def __init__(self, service: Service, folder: Path, fps: float) -> None:
        self._service, self._folder, self._fps = service, folder, fps
        self.n_bytes = self.n_pictures = 0

    async def load(self, part: MediaPart) -> Medium:
        """Gets one picture or video.

        Raises:
            MediaError: If it cannot be read, or may not be fetched.
            TooLargeError: If it, or all of it together, is too large.
        """
        config = self._service.config
        if isinstance(part, ImagePart):
            data = await self._bytes(part.image_url.url, config.max_picture)
            return self._stills([data], STILL_S)
        url = part.video_url.url
        if url[: len("data:") + len(_JPEGS)].lower() == f"data:{_JPEGS}":
            # vLLM's form of sampled frames: JPEGs with commas between
            jpegs = parse_data_url(url).payload.split(",")
            if len(jpegs) > config.max_frames:
                raise too_many_frames(config.max_frames)
            decode = partial(decode_base64, max_bytes=config.max_picture)
            return self._stills(await asyncio.to_thread(lambda: [decode(jpeg) for jpeg in jpegs]), 1 / self._fps)
        data = await self._bytes(url, config.max_video)
        self._count(len(data), 0)
        path = self._folder / f"video-{self.n_bytes}"  # a name that no other has: the bytes only grow
        await asyncio.to_thread(path.write_bytes, data)
        return Film(path)

    async def _bytes(self, url: str, max_bytes: int) -> bytes:
        if url[:5].lower() == "data:":
            return await asyncio.to_thread(decode_base64, parse_data_url(url).payload, max_bytes=max_bytes)
        return await self._service.fetcher.fetch(url, max_bytes=max_bytes)

    def _stills(self, encoded: list[bytes], every_s: float) -> Stills:
        self._count(sum(map(len, encoded)), len(encoded))
        return Stills(encoded, every_s)

    def _count(self, n_bytes: int, n_pictures: int) -> None:
        self.n_bytes += n_bytes
        self.n_pictures += n_pictures
        config = self._service.config
        if self.n_bytes > config.max_body:
            raise TooLargeError(f"The media has more than {config.max_body} bytes altogether; send less.")
        if self.n_pictures > config.max_frames:
            raise too_many_frames(config.max_frames)


def too_many_frames(most: int) -> TooLargeError:
    """What is said of a request with more frames than allowed."""
    return TooLargeError(f"The request has more than {most} frames; send less video, or take a lower fps.")


class FrameReader:
    """Decodes media to frames, in order, on whatever thread asks for them.

    Args:
        service: Says how much is allowed.
        fps: Frames to sample from a second of video.

    Attributes:
        n_frames: Decoded so far.
    """

    def __init__(self, service: Service, fps: float) -> None:
        self._bounds, self._most, self._fps = service.bounds, service.config.max_frames, fps
        self._next_s = 0.0
        self.n_frames = 0

    def frames(self, media: Sequence[Medium]) -> Generator[tuple[float, Picture], None, None]:
        """Stream times and pictures of the next media; what came before is before them in time.

        Raises:
            StreamVlmError: If one cannot be read or is too large, or there are too many frames.
        """
        for medium in media:
            for time_s, picture in self._stills(medium) if isinstance(medium, Stills) else self._film(medium):
                if self.n_frames == self._most:
                    raise too_many_frames(self._most)
                self.n_frames += 1
                yield time_s, picture

    def _stills(self, stills: Stills) -> Iterator[tuple[float, Picture]]:
        for data in stills.encoded:
            from_s = self._next_s
            reader = open_still(data, self._bounds)
            for time_s, decoded in sample(reader, self._fps):
                yield from_s + time_s, decoded()
                self._next_s = from_s + time_s + stills.every_s
            if reader.n_corrupt_packets:
                raise PictureError("The animation is damaged or cut short; send it whole.")
            self._next_s = max(self._next_s, from_s + (reader.duration_s or 0.0))

    def _film(self, film: Film) -> Iterator[tuple[float, Picture]]:
        from_s = self._next_s
        with open_upload(film.path, name="the video", fps=self._fps, max_px=self._bounds.max_px) as source:
            for frame in source:
                yield from_s + frame.time_s, frame.picture
                self._next_s = from_s + frame.time_s + 1 / self._fps
