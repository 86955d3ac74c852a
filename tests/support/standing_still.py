"""An engine that takes no step for a while, as with a slow model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from streamvlm.engine.engine import Engine


@contextmanager
def standing_still(engine: Engine) -> Iterator[threading.Event]:
    """Keeps an engine from taking steps; setting the event lets it go on sooner."""
    goes_on, stands = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        goes_on.wait()

    with ThreadPoolExecutor(1) as holding:
        held = holding.submit(engine._worker.call, stand)
        stands.wait()
        try:
            yield goes_on
        finally:
            goes_on.set()
            held.result()
