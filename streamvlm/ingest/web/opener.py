"""Sources on the web, fetched by our own client (`HttpClient`).

FFmpeg itself follows redirects, and opens whatever a file names, unchecked. Here it opens nothing: it gets the bytes
that we fetch.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import httpx2

from streamvlm.errors import SourceError, SourceStalledError, StreamVlmError
from streamvlm.ingest.address import redact
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.web.http_client import Admit, HttpClient, Logins

T = TypeVar("T")

_FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError)


class WebOpener:
    """Opens all that belongs to one source on the web; has to be closed.

    The event loop of its connections has its own thread, so that any wait ends at its timeout, or on closing.

    Args:
        name: Of the source, for messages.
        admit: Checks every URL; None admits all.
        timeout_s: Longest wait for a host.
    """

    def __init__(self, name: str, admit: Admit | None, *, timeout_s: float) -> None:
        self.name, self.timeout_s, self._admit = name, timeout_s, admit
        self._logins: Logins = {}
        self._lock, self._is_closed = threading.Lock(), False
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, url: str, start: int = 0, stop: int | None = None) -> WebFile:
        """Opens the bytes of a URL from `start` up to `stop`.

        Raises:
            SourceError: If it cannot be read.
            StreamVlmError: If it is not admitted.
        """
        return WebFile(self, url, start, stop)

    def refuse(self, url: str) -> NoReturn:
        """Raises the error that something not on the web is not opened."""
        if self._admit is not None:
            self._admit(url)
        raise SourceError(
            f"{self.name} is no video that can be read: it names {redact(url)[:80]}, which is refused; "
            "check what it is."
        )

    def close(self) -> None:
        """Ends all waiting and all connections."""
        with self._lock:  # what was begun before is ended below
            was_closed, self._is_closed = self._is_closed, True
        if self._loop is not None and not was_closed:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._follower.close()
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        with self._lock:
            if self._is_closed:
                raise CancelledError
            if self._loop is None:
                self._follower = HttpClient(self.name, self._admit, timeout_s=self.timeout_s)
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=f"web {self.name}", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def ask(self, url: str, start: int, stop: int | None, until_s: float) -> tuple[httpx2.Response, str]:
        """Requests the bytes of a URL from `start` up to `stop`; returns the answer, and the URL that gave it."""
        wanted = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        response, found = self.wait_for(lambda: self._follower.get(url, wanted, self._logins), until_s)
        if response.status_code not in (httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT):
            self.wait_for(response.aclose, until_s)
            raise SourceError(self._refusal(response))
        return response, found

    def wait_for(self, work: Callable[[], Coroutine[Any, Any, T]], until_s: float) -> T:
        """Runs a coroutine on the event loop, and waits for it.

        Raises:
            StreamVlmError: If it fails, or is not done in time.
        """

        async def in_time() -> T:
            async with asyncio.timeout(until_s - time.monotonic()):
                return await work()

        try:
            return self._begin(in_time).result()
        except _FAILURES as error:
            raise self._told(error) from None
        except CancelledError:
            raise SourceError(f"{self.name} has been closed.") from None

    def _refusal(self, response: httpx2.Response) -> str:
        if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            return f"{self.name} asks for other credentials; give them as user:password@ before the host."
        said = f"{response.status_code} {httpx2.codes.get_reason_phrase(response.status_code)}"
        return f"{self.name} cannot be opened ({said}); check the address, and that it is up."

    def _told(self, error: Exception) -> StreamVlmError:
        if isinstance(error, httpx2.TimeoutException | TimeoutError):
            return SourceStalledError(f"{self.name} did not answer for {self.timeout_s:g} s; check that it is up.")
        what = _root_of(error)
        if reason := re.search(r"certificate verify failed: ([^(]*\w)", what):
            return SourceError(
                f"{self.name} shows a certificate that is not trusted ({reason[1]}); "
                "name a file with it in SSL_CERT_FILE, or give its http:// address."
            )
        return SourceStalledError(f"{self.name} cannot be read ({what}); check the address, and that it is up.")


class WebFile(IncomingBytes):
    """What is at a URL, as a file; after seeking, the next reading sends a new request.

    Attributes:
        url: Where it was found, after all redirects.
        size: Bytes of the whole of which it is a part; None if its server does not state it.
        media_type: As its server states it, with parameters; may be empty.
    """

    def __init__(self, opener: WebOpener, url: str, start: int, stop: int | None) -> None:
        super().__init__(opener.name, timeout_s=opener.timeout_s)
        self._opener, self._asked, self._stop = opener, url, stop
        self.place = start
        first = self._begin()
        self.size, self._sends_parts = _size(first), first.status_code == httpx2.codes.PARTIAL_CONTENT
        self.media_type = first.headers.get("content-type", "")

    def seekable(self) -> bool:
        """Whether its server sends parts of it, and states its size."""
        return self._sends_parts and self.size is not None

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size or 0}[whence]
        if place != self.place:
            self._let_go()
        self.place = place
        return place

    def close(self) -> None:
        """Closes the connection."""
        self._let_go()
        super().close()

    def _receive(self) -> bytes:
        if self._response is None:
            self._begin()
        return self._opener.wait_for(self._next_piece, min(self._until_s, time.monotonic() + self._timeout_s))

    async def _next_piece(self) -> bytes:
        return await anext(self._pieces, b"")

    def _begin(self) -> httpx2.Response:
        response, self.url = self._opener.ask(self._asked, self.place, self._stop, self._until_s)
        self._response: httpx2.Response | None = response
        self._pieces = _pieces(response, self.place, self._stop)
        return response

    def _let_go(self) -> None:
        if self._response is not None:
            with suppress(SourceError):  # closed all the same
                self._opener.wait_for(self._response.aclose, time.monotonic() + self._timeout_s)
        self._response, self._ahead = None, b""


def _root_of(error: BaseException) -> str:
    """Returns the cause at the bottom of an error, in the system's words where it has some."""
    match error:
        case ssl.SSLError():
            return error.strerror or str(error)
        case OSError(errno=int(number)) if number > 0:  # below are those of looking up names
            return os.strerror(number)
    beneath = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    return str(error) or type(error).__name__ if beneath is None else _root_of(beneath)


async def _pieces(response: httpx2.Response, start: int, stop: int | None) -> AsyncIterator[bytes]:
    """Yields the bytes of a response from `start` up to `stop`: a server without ranges sends all of them."""
    place = start if response.status_code == httpx2.codes.PARTIAL_CONTENT else 0
    async for piece in response.aiter_raw():
        before, place = place, place + len(piece)
        if wanted := piece[max(0, start - before) : None if stop is None else max(0, stop - before)]:
            yield wanted
        if stop is not None and place >= stop:
            return


def _size(response: httpx2.Response) -> int | None:
    """Returns the size of the whole, of which a response may hold a part."""
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        stated = response.headers.get("content-range", "").rpartition("/")[2]
    else:
        stated = response.headers.get("content-length", "")
    return int(stated) if re.fullmatch(r"[0-9]{1,18}", stated) else None
