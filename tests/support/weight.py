"""RAM that a process has, and the most that it has had."""

from __future__ import annotations

import re
from pathlib import Path


class Weight:
    """Weighs a process by its id."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    @property
    def resident_bytes(self) -> int:
        """What it has now."""
        return self._status("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The most that it has had since ``forget_peak``."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begins to look for the peak anew."""
        (self._proc / "clear_refs").write_text("5")

    def _status(self, field: str) -> int:
        found = re.search(rf"^{field}:\s+(\d+) kB$", (self._proc / "status").read_text(), re.MULTILINE)
        assert found is not None, field
        return int(found[1]) << 10
