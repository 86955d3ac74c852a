"""A real server on a free port of this machine, in a thread: real sockets, the real engine, the bundled model."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streamvlm.engine.engine import Engine
from streamvlm.models.base import VideoLanguageModel
from streamvlm_server.app import build_app
from streamvlm_server.config import ServerConfig
from streamvlm_server.hosting.draining_server import DrainingServer, listen
from streamvlm_server.serve import engine_config
from streamvlm_server.service import Service


@dataclass(frozen=True)
class LiveServer:
    """A server that is running.

    Attributes:
        url: Such as ``http://127.0.0.1:40001``.
        engine: Behind it; tests may open sessions in it directly.
        service: All of its parts.
        server: Stops when ``stop()`` is called.
    """

    url: str
    engine: Engine
    service: Service
    server: DrainingServer


@contextmanager
def live_server(model: VideoLanguageModel, **settings: object) -> Iterator[LiveServer]:
    """Runs a server with these fields of ServerConfig, and stops it in order."""
    config = ServerConfig.model_validate(
        {"port": 0, "memory_budget": "1GiB", "session_memory_budget": "64MiB", **settings}
    )
    is_ready = threading.Event()
    with listen(config) as opened, Engine(model, engine_config(config)) as engine:
        app = build_app(engine, config)
        server = DrainingServer(app, config, on_ready=is_ready.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([opened])), name="server")
        thread.start()
        assert is_ready.wait(60), "the server did not start"
        try:
            scheme = "http" if config.tls_cert is None else "https"
            url = f"{scheme}://127.0.0.1:{opened.getsockname()[1]}"
            yield LiveServer(url, engine, app.state.service, server)
        finally:
            with contextlib.suppress(RuntimeError):  # the test has stopped it
                server.stop()
            thread.join()


def wait_until(is_true: Callable[[], bool]) -> None:
    """Waits until ``is_true`` returns True; the time limit of the test ends an endless wait."""
    while not is_true():
        time.sleep(0.02)
