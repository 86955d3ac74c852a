"""Decodes pictures off the event loop, on a few threads for all connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from streamvlm_server.errors import TooLargeError, of_part
from streamvlm_server.untrusted.data_url import decode_base64, parse_data_url
from streamvlm_server.untrusted.picture import PictureBounds, Timed, decode_pictures


class PictureDecoder:
    """Decodes pictures; a connection waits for its own, so no more pictures wait than there are connections.

    Args:
        bounds: How large a picture may be, and all those of an animation or of an item together.
    """

    def __init__(self, bounds: PictureBounds) -> None:
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")

    async def decode(self, data: bytes) -> list[Timed]:
        """Decodes the picture in a file, or those of an animation.

        Raises:
            TooLargeError: If it has too many bytes.
            PictureError: If it cannot be read, or has too many pixels.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, decode_pictures, data, self._bounds)

    async def decode_urls(self, urls: Mapping[str, str]) -> list[Timed]:
        """Decodes the pictures of an item's data URLs, given by their places in the event.

        Raises:
            PartError: If one is too large, or cannot be read.
            TooLargeError: If they have more pixels together than one may have.
        """
        loop = asyncio.get_running_loop()
        pictures: list[Timed] = []
        n_px = 0
        for param, url in urls.items():
            with of_part(param, "image"):
                decoded = await loop.run_in_executor(self._threads, self._decode_url, url)
            pictures += decoded
            n_px += sum(picture.size // 3 for _, picture in decoded)
            if n_px > self._bounds.max_px:
                raise TooLargeError(
                    f"The pictures of the item have more than {self._bounds.max_px} pixels together; "
                    "send each in an item of its own."
                )
        return pictures

    def close(self) -> None:
        """Ends the threads, after the pictures that they are decoding."""
        self._threads.shutdown(wait=False)

    def _decode_url(self, url: str) -> list[Timed]:
        data = decode_base64(parse_data_url(url).payload, max_bytes=self._bounds.max_bytes)
        return decode_pictures(data, self._bounds)
