"""The system calls of the disk tier, in one place, so that tests can make them fail."""

from __future__ import annotations

import os
from collections.abc import Sequence

_MOST_BUFFERS = 512  # well below Linux's limit of 1024 a call


class SystemCalls:
    """Positioned reads and writes that end only when everything is moved; any of them raises ``OSError``."""

    def reserve(self, fd: int, n_bytes: int) -> None:
        """Takes disk space for the whole file now, so that a full disk shows before anything depends on it."""
        os.posix_fallocate(fd, 0, n_bytes)

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        """Writes the buffers one behind the other."""
        for start in range(0, len(buffers), _MOST_BUFFERS):
            left = list(buffers[start : start + _MOST_BUFFERS])
            while left:
                n_bytes = os.pwritev(fd, left, offset)
                offset += n_bytes
                left = _behind(left, n_bytes)

    def read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Fills the buffers one after the other; returns the bytes read, fewer only at the file's end."""
        total = 0
        for start in range(0, len(buffers), _MOST_BUFFERS):
            left = list(buffers[start : start + _MOST_BUFFERS])
            while left:
                n_bytes = os.preadv(fd, left, offset + total)
                if n_bytes == 0:
                    return total
                total += n_bytes
                left = _behind(left, n_bytes)
        return total

    def sync(self, fd: int) -> None:
        """Returns once what was written would survive a power cut."""
        os.fdatasync(fd)


def _behind(buffers: list[memoryview], n_bytes: int) -> list[memoryview]:
    """Returns what is left of the buffers behind their first ``n_bytes``."""
    for i, buffer in enumerate(buffers):
        if n_bytes < buffer.nbytes:
            return [buffer[n_bytes:], *buffers[i + 1 :]]
        n_bytes -= buffer.nbytes
    return []
