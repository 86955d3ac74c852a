"""`streamvlm serve` as another process, which a test can kill, stop, and measure."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from weight import Weight


class ServerProcess:
    """A server on a free port that takes requests; leaving its context kills it.

    Args:
        device: Where its model runs.
        *flags: Of ``streamvlm serve``.

    Attributes:
        url: Such as ``http://127.0.0.1:40001``.
        process: Gets signals.
        weight: Measures its memory.
        said: Lines that it has logged.
    """

    def __init__(self, device: str, *flags: str) -> None:
        quietly = ["--port", "0", "--log-level", "error"]
        command = [sys.executable, "-m", "streamvlm", "serve", "--device", device, *quietly, *flags]
        # Freed memory goes back at once, so that the process's size is what it holds, without its allocator's caches.
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        assert self.process.stderr is not None
        self.weight = Weight(self.process.pid)
        self.said: list[str] = []
        # Read to the end, because a server that logs into a full pipe waits for ever.
        self._reader = threading.Thread(target=self.said.extend, args=(self.process.stderr,))
        first: list[str] = []
        for line in self.process.stderr:
            first.append(line)
            if "serving pocket on " in line:
                self.url = line.split()[-1]
                self._reader.start()
                return
        with self.process:
            raise AssertionError("".join(first))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._reader.join()
        with self.process:  # closes its pipe and waits for its end
            pass
