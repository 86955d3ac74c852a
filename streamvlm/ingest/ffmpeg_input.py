"""What FFmpeg reads of `IncomingBytes`: a failure is its end, and is told when all that came before has been shown."""

from __future__ import annotations

import io

from streamvlm.errors import SourceError
from streamvlm.ingest.incoming_bytes import IncomingBytes


class FFmpegInput(io.RawIOBase):
    """A file for `av.open`.

    PyAV calls it from C, where an interrupt would go unheard, and raises what it raises instead of what was read.

    Args:
        file: What is read.
    """

    def __init__(self, file: IncomingBytes) -> None:
        self._file = file
        self._failure: BaseException | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether one can go to another place of it."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next reading begins."""
        return self._file.tell()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes as they come, at most so many; none at the end."""
        try:
            return b"" if self._failure is not None else self._file.read(size)
        except BaseException as error:
            self._failure = error
            return b""

    def check(self, *, is_over: bool) -> None:
        """Raises what reading failed with, if all that came has been shown, or if it is no failure of the source."""
        if self._failure is not None and (is_over or not isinstance(self._failure, SourceError)):
            raise self._failure
