"""Web sources that nobody vouches for, read by our own hand: every URL on the way is looked at before it is followed.

FFmpeg follows redirects, and opens whatever a playlist names, without asking anybody. Here it opens nothing: it is
given the bytes of what it wants by `WebOpener`, which has each URL admitted first, those of redirects and segments too,
and connects to the very addresses that were admitted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import httpx2

from streamvlm.errors import SourceError, SourceStalledError, StreamVlmError

MAX_REDIRECTS = 5
MAX_MISSING = 8
"""Parts in a row that cannot be had before a source is given up: a live playlist may name some that are gone."""

Admit = Callable[[str], Sequence[str]]
"""Says of a URL to which addresses of its host to connect; raises a `StreamVlmError` if it may not be read."""

_FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, SourceError)


class WebFile(io.RawIOBase):
    """What is at a URL, as a file that FFmpeg reads; where to go on after seeking is asked at the next reading.

    Args:
        ask: Gives the bytes from an offset on, and where they were found.
        start: The first such offset.
        fails: Makes an error of reading what it is to be raised as; None makes it the end of the file.

    Attributes:
        url: Where it was found, after all redirects.
        size: Its bytes; None if its server does not tell.
    """

    def __init__(
        self,
        ask: Callable[[int], tuple[httpx2.Response, str]],
        start: int,
        fails: Callable[[Exception], StreamVlmError | None],
    ) -> None:
        self._ask, self._fails, self._place = ask, fails, start
        self._rest = b""
        self._response: httpx2.Response | None = None
        self._pieces, first = self._begin()
        self.size, self._sends_parts = _size(first), first.status_code == httpx2.codes.PARTIAL_CONTENT

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether its server sends parts of it, and says how much there is."""
        return self._sends_parts and self.size is not None

    def tell(self) -> int:
        """Where the next reading begins."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size or 0}[whence]
        if place != self._place:
            self._let_go()
        self._place = place
        return place

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes as they come, at most so many; none at the end."""
        try:
            if self._response is None:
                self._pieces, _ = self._begin()
            while not self._rest:
                self._rest = next(self._pieces)
        except StopIteration:
            return b""
        except _FAILURES as error:
            if (failure := self._fails(error)) is None:
                return b""
            raise failure from None
        told, self._rest = self._rest[:size], self._rest[size:]
        self._place += len(told)
        return told

    def close(self) -> None:
        """Lets the connection go."""
        self._let_go()
        super().close()

    def _begin(self) -> tuple[Iterator[bytes], httpx2.Response]:
        response, self.url = self._ask(self._place)
        self._response = response
        return _pieces(response, self._place), response

    def _let_go(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._rest = None, b""


class WebOpener:
    """Opens for FFmpeg all that it wants of one source: `av.open(io_open=…)`.

    What is not admitted ends the source. A part of it that cannot be had is empty, and FFmpeg goes on to the next one.

    Args:
        name: Of the source, for messages.
        admit: Looks at every URL.
        timeout_s: How long a host may keep us waiting.

    Attributes:
        size: Bytes of the source itself; None if its server does not tell.
    """

    def __init__(self, name: str, admit: Admit, *, timeout_s: float) -> None:
        self._name, self._admit, self._timeout_s = name, admit, timeout_s
        self.size: int | None = None
        # The environment's proxies would connect to wherever they like.
        self._client = httpx2.Client(trust_env=False, timeout=timeout_s, headers={"Accept-Encoding": "identity"})
        self._first: WebFile | None = None
        self._n_missing = 0
        self._is_refused = False

    def begin(self, url: str) -> str:
        """Opens the source itself; returns where it was found, which is what a playlist's lines are relative to.

        Raises:
            SourceError: If it cannot be had.
            StreamVlmError: If it is not admitted.
        """
        try:
            self._first = WebFile(lambda place: self._follow(url, place), 0, self._told)
        except _FAILURES as error:
            raise self._told(error) from None
        self.size = self._first.size
        return self._first.url

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> io.RawIOBase | io.BytesIO:
        """Opens what FFmpeg wants next; see `av.open`."""
        first, self._first = self._first, None
        if first is not None and first.url == url:
            return first
        if self._is_refused:
            return io.BytesIO()  # PyAV raises the refusal as soon as FFmpeg returns to it
        start, stop = int(options.get("offset", 0)), int(options.get("end_offset", 0))
        try:
            part = WebFile(lambda place: self._follow(url, place, stop), start, lambda error: None)
        except _FAILURES as error:
            self._n_missing += 1
            if self._n_missing == MAX_MISSING:
                raise self._told(error) from None
            return io.BytesIO()
        except StreamVlmError:
            self._is_refused = True
            raise
        self._n_missing = 0
        return part

    def close(self) -> None:
        """Ends all connections."""
        if self._first is not None:
            self._first.close()
        self._client.close()

    def _follow(self, url: str, start: int, stop: int = 0) -> tuple[httpx2.Response, str]:
        """What is at a URL from `start` up to `stop`, if that is not 0; and where that was."""
        wanted = {"Range": f"bytes={start}-{stop - 1 if stop else ''}"}
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url, wanted)
            if response.status_code in (httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT):
                return response, url
            response.close()
            if not response.has_redirect_location:
                raise SourceError(self._refusal(response))
            url = str(httpx2.URL(url).join(response.headers["location"]))
        raise SourceError(f"{self._name} is redirected more than {MAX_REDIRECTS} times; give its own URL.")

    def _ask(self, url: str, headers: Mapping[str, str]) -> httpx2.Response:
        """Asks the first of the admitted addresses that can be reached."""
        *others, last = self._admit(url)
        for address in others:
            with suppress(httpx2.ConnectError):
                return self._client.send(self._request(url, address, headers), stream=True)
        return self._client.send(self._request(url, last, headers), stream=True)

    def _request(self, url: str, address: str, headers: Mapping[str, str]) -> httpx2.Request:
        """A request to an address in the name of the host: in its header, and in TLS."""
        meant = httpx2.URL(url)
        return self._client.build_request(
            "GET",
            meant.copy_with(host=address),
            headers={**headers, "Host": meant.netloc.decode("ascii")},
            extensions={"sni_hostname": meant.raw_host.decode("ascii")},
        )

    def _refusal(self, response: httpx2.Response) -> str:
        if response.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            return f"{self._name} asks for other credentials; give them as user:password@ before the host."
        said = f"{response.status_code} {response.reason_phrase}"
        return f"{self._name} cannot be opened ({said}); check the address, and that it is up."

    def _told(self, error: Exception) -> StreamVlmError:
        if isinstance(error, StreamVlmError):
            return error
        if isinstance(error, httpx2.TimeoutException):
            return SourceStalledError(f"{self._name} did not answer for {self._timeout_s:g} s; check that it is up.")
        what = str(error) or type(error).__name__
        return SourceStalledError(f"{self._name} cannot be read ({what}); check the address, and that it is up.")


def _pieces(response: httpx2.Response, start: int) -> Iterator[bytes]:
    """What comes of a response from `start` on: a server that knows no ranges sends all of it."""
    ahead = start if response.status_code == httpx2.codes.OK else 0
    for piece in response.iter_raw():
        yield piece[ahead:]
        ahead = max(0, ahead - len(piece))


def _size(response: httpx2.Response) -> int | None:
    """Bytes of the whole, of which a response may hold a part."""
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        told = response.headers.get("content-range", "").rpartition("/")[2]
    else:
        told = response.headers.get("content-length", "")
    return int(told) if told.isdecimal() else None
