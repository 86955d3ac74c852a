"""The bytes of a source, as they come."""

from __future__ import annotations

import io
import time
from abc import abstractmethod

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.readable import size


class IncomingBytes(io.RawIOBase):
    """A file whose bytes come at their own pace; those that are waited for must come within the timeout.

    Args:
        name: Of the source, for messages.
        timeout_s: Longest wait for a packet or a picture.

    Attributes:
        place: How many bytes lie before the next one that will be read.
    """

    def __init__(self, name: str, *, timeout_s: float) -> None:
        self._name, self._timeout_s = name, timeout_s
        self.place = 0
        self._ahead = b""
        self._until_s = time.monotonic() + timeout_s

    def expect(self) -> None:
        """Starts the timeout; a source that trickles gets no more time than one that is silent."""
        self._until_s = time.monotonic() + self._timeout_s

    def peek(self, size: int) -> bytes:
        """Returns the next ``size`` bytes without reading them; fewer at the end."""
        while len(self._ahead) < size and (piece := self._in_time()):
            self._ahead += piece
        return self._ahead[:size]

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes as they come, at most ``size``; none at the end.

        Raises:
            SourceStalledError: If nothing came within the timeout.
            StreamVlmError: If reading fails.
        """
        if not self._ahead:
            self._ahead = self._in_time()
        data = self._ahead if size < 0 else self._ahead[:size]
        self._ahead = self._ahead[len(data) :]
        self.place += len(data)
        return data

    def read_all(self, max_bytes: int) -> bytes:
        """Returns all bytes that are left.

        Raises:
            SourceError: If there are more than `max_bytes`, or as `read` does.
        """
        data = bytearray()
        while piece := self.read():
            data += piece
            if len(data) > max_bytes:
                raise SourceError(f"{self._name} has more than {size(max_bytes)} where a small file belongs; check it.")
        return bytes(data)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the place at which the next reading begins."""
        return self.place

    @abstractmethod
    def _receive(self) -> bytes:
        """Returns the next bytes as they come; none at the end."""

    def _in_time(self) -> bytes:
        if time.monotonic() > self._until_s:
            raise self._stalled()
        return self._receive()

    def _stalled(self) -> SourceStalledError:
        return SourceStalledError(f"{self._name} did not answer for {self._timeout_s:g} s; check that it is up.")
