"""Bytes of disk that the stores of a process may take together."""

from __future__ import annotations

import threading


class DiskQuota:
    """A budget that is used up as files are made; safe between threads.

    RAM is promised to a session whole. Disk is not: promises would count what sessions at rest will never need. A
    store that finds nothing left here fades and forgets its own oldest blocks, as within its own budget.

    Args:
        most_bytes: Of all files.
        used_bytes: Of files that are there already; may be more than the most, and then none is made.
    """

    def __init__(self, most_bytes: int, used_bytes: int = 0) -> None:
        self.most_bytes, self.used_bytes = most_bytes, used_bytes
        self._lock = threading.Lock()

    @property
    def left_bytes(self) -> int:
        """Bytes that may still be taken."""
        return max(self.most_bytes - self.used_bytes, 0)

    def take(self, n_bytes: int) -> bool:
        """Counts a file that is about to be made; False, and nothing is counted, if it is more than is left."""
        with self._lock:
            if n_bytes > self.left_bytes:
                return False
            self.used_bytes += n_bytes
            return True

    def give_back(self, n_bytes: int) -> None:
        """Counts bytes off that are no longer there."""
        with self._lock:
            self.used_bytes -= n_bytes
