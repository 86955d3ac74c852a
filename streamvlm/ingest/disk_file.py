"""Files on disk as `IncomingBytes`, and copies on disk of what cannot be read as it comes."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from typing import BinaryIO

from streamvlm.errors import SourceError
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.readable import size

MAX_KEPT_BYTES = 2 << 30
MAX_COPY_S = 600.0
"""How long copying may take altogether."""

_PIECE_BYTES = 1 << 16
_SPARE_BYTES = 256 << 20
_MAX_BEFORE_BYTES = 1 << 20
_BOX = frozenset((b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"pdin", b"sidx"))


class DiskFile(IncomingBytes):
    """A file on disk, from `start` up to `stop`; closed with it."""

    def __init__(self, file: BinaryIO, start: int = 0, stop: int | None = None) -> None:
        super().__init__("a file", timeout_s=float("inf"))  # which has its bytes at once
        self._file, self._stop = file, stop
        self.seek(start)

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        self._ahead = b""
        self.place = self._file.seek(offset if whence != io.SEEK_CUR else self.place + offset, whence and io.SEEK_END)
        return self.place

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def _receive(self) -> bytes:
        return self._file.read(
            _PIECE_BYTES if self._stop is None else max(0, min(_PIECE_BYTES, self._stop - self.place))
        )


def has_index_behind(file: IncomingBytes) -> bool:
    """Whether a file is MP4 or QuickTime with its index after its pictures."""
    place = 0
    while place < _MAX_BEFORE_BYTES:
        head = file.peek(place + 16)[place:]
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind not in _BOX or kind in (b"moov", b"moof"):
            return False
        if kind == b"mdat":
            return True
        place += int.from_bytes(head[8:16], "big") if size == 1 else max(8, size)
    return False


def copy_to_disk(file: IncomingBytes, *, name: str, max_bytes: int) -> DiskFile:
    """Copies a file to disk, where FFmpeg can seek to its end, and closes it.

    Args:
        file: What is copied.
        name: Of the source, for messages.
        max_bytes: Most bytes to copy; fewer if the disk has less to spare.

    Raises:
        SourceError: If it is too large, too slow, or breaks off.
    """
    most = min(max_bytes, shutil.disk_usage(tempfile.gettempdir()).free - _SPARE_BYTES)
    until_s = time.monotonic() + MAX_COPY_S
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        with file:
            while piece := file.read():
                copy.write(piece)
                file.expect()
                if copy.tell() > most:
                    raise SourceError(_why_not_copied(name, f"has more than the {size(most)} that may be fetched"))
                if time.monotonic() > until_s:
                    raise SourceError(_why_not_copied(name, f"was not fetched within {MAX_COPY_S:g} s"))
    except BaseException:
        copy.close()
        raise
    return DiskFile(copy)


def _why_not_copied(name: str, what: str) -> str:
    return (
        f"{name} has its index at its end, comes from where nobody can seek, and {what}; "
        "download it, or have its index put first (ffmpeg -movflags faststart)."
    )
