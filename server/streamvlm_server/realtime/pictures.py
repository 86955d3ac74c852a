"""Decoding of pictures off the event loop, on a few threads for all connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from streamvlm.frame import Picture
from streamvlm_server.media import PictureBounds, decode_base64, decode_picture, parse_data_url


class PictureDecoder:
    """Decodes pictures; each connection waits for its own, so that no more wait than there are connections.

    Args:
        bounds: How large a picture may be.
    """

    def __init__(self, bounds: PictureBounds) -> None:
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")

    async def decode(self, data: bytes) -> Picture:
        """The picture of a JPEG, PNG or WebP file.

        Raises:
            TooLargeError: If it has too many bytes or pixels.
            MediaError: If it cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, decode_picture, data, self._bounds)

    async def decode_urls(self, urls: Sequence[str]) -> list[Picture]:
        """The pictures of data URLs; raises as ``decode`` does."""
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._threads, self._decode_url, url) for url in urls]

    def close(self) -> None:
        """Ends the threads; what is being decoded is finished."""
        self._threads.shutdown(wait=False)

    def _decode_url(self, url: str) -> Picture:
        data = decode_base64(parse_data_url(url).payload, max_bytes=self._bounds.max_bytes)
        return decode_picture(data, self._bounds)
