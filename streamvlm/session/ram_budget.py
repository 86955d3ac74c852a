"""The RAM that all sessions of a process may use together."""

from __future__ import annotations

import os
import threading

from streamvlm.errors import MemoryBudgetError

_RAM_SHARE = 0.9
"""Of a machine's RAM, for blocks: the rest is for weights, pictures and everybody else."""


class RamBudget:
    """Bytes of host RAM, handed out in whole session budgets: what has been promised can always be kept.

    Args:
        host_bytes: Of RAM, for the blocks of all sessions.
    """

    def __init__(self, host_bytes: int) -> None:
        self.host_bytes = host_bytes
        self._lock = threading.Lock()
        self._taken: list[int] = []

    @classmethod
    def of_this_machine(cls) -> RamBudget:
        """Returns a budget of nine tenths of the machine's RAM."""
        return cls(int(_RAM_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))

    @property
    def left_bytes(self) -> int:
        """Bytes that are not promised yet."""
        return self.host_bytes - sum(self._taken)

    def take(self, n_bytes: int) -> None:
        """Promises a session its budget.

        Raises:
            MemoryBudgetError: If that is more than is left.
        """
        with self._lock:
            if n_bytes > self.left_bytes:
                raise MemoryBudgetError(
                    f"A memory budget of {n_bytes >> 20} MiB does not fit: this process may use "
                    f"{self.host_bytes >> 20} MiB and {len(self._taken)} sessions have "
                    f"{(self.host_bytes - self.left_bytes) >> 20} MiB of it; give a smaller one, or end a session."
                )
            self._taken.append(n_bytes)

    def give_back(self, n_bytes: int) -> None:
        """Takes back what a session that has ended was promised."""
        with self._lock:
            self._taken.remove(n_bytes)
