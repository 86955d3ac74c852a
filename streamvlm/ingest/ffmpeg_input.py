"""`IncomingBytes` as FFmpeg reads them: a failure ends the file, and is raised when all before it has been shown."""

from __future__ import annotations

import io

from streamvlm.errors import SourceError
from streamvlm.ingest.incoming_bytes import IncomingBytes


class FFmpegInput(io.RawIOBase):
    """A file for `av.open`.

    PyAV calls it from C, where an interrupt would be lost, and would raise an error at once, in place of the bytes that
    were read before it.

    Args:
        file: What is read.
    """

    def __init__(self, file: IncomingBytes) -> None:
        self._file = file
        self._failure: BaseException | None = None

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Whether the file can be read from another place."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Returns the place at which the next reading begins."""
        return self._file.tell()

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes as they come, at most ``size``; none at the end."""
        try:
            return b"" if self._failure is not None else self._file.read(size)
        except BaseException as error:
            self._failure = error
            return b""

    def check(self, *, is_over: bool) -> None:
        """Raises the error that reading failed with, if all that came was shown or if it is no error of the source."""
        if self._failure is not None and (is_over or not isinstance(self._failure, SourceError)):
            raise self._failure
