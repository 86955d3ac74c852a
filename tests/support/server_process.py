"""`streamvlm serve` as a process of its own: it can be killed, asked to stop, and weighed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from weight import Weight


class ServerProcess:
    """A server on a free port that takes requests; whoever leaves it kills it.

    Args:
        device: Where its model runs.
        *flags: Of ``streamvlm serve``.

    Attributes:
        url: Such as ``http://127.0.0.1:40001``.
        process: Gets signals.
        weight: Weighs it.
        said: Lines that it has logged since.
    """

    def __init__(self, device: str, *flags: str) -> None:
        quietly = ["--port", "0", "--log-level", "error"]
        command = [sys.executable, "-m", "streamvlm", "serve", "--device", device, *quietly, *flags]
        # What it frees it gives back at once: it weighs what it holds, and not what its allocator keeps for later.
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        assert self.process.stderr is not None
        self.weight = Weight(self.process.pid)
        self.said: list[str] = []
        # Read on to its end: a server that cannot log, as nobody empties the pipe, waits for ever.
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
