"""Starts a server by its configuration, and stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from streamvlm.archive.archive import ArchiveConfig
from streamvlm.archive.compute_threads import in_passing
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.memory.disk.codec import Codec
from streamvlm.models.registry import load_model
from streamvlm.session.config import SessionConfig
from streamvlm_server.access.keys import check_bind, load_keys
from streamvlm_server.app import build_app
from streamvlm_server.config import ServerConfig
from streamvlm_server.hosting.draining_server import DrainingServer, check_tls, listen
from streamvlm_server.monitoring.logs import configure_logging


async def serve(config: ServerConfig, *, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; returns when running answers have ended and all memory is on disk.

    Args:
        config: Configuration of the server.
        on_ready: Called with the server's URL when it takes requests.

    Raises:
        StreamVlmError: If the server cannot start.
    """
    check_bind(config.host, load_keys(config.keys_file))
    check_tls(config)
    opened = listen(config)
    configure_logging(config.log_level)
    # A thread that stays where a model was loaded would compete with the engine's for the cores.
    started = partial(_start_engine, config)
    with opened, await asyncio.to_thread(in_passing, started) as engine:
        url = _url(config, opened.getsockname()[1])
        server = DrainingServer(build_app(engine, config), config, on_ready=lambda: on_ready(url))
        await server.serve([opened])
        engine.close(drain_s=server.time_left_s)  # frames that were acknowledged are still watched


def _start_engine(config: ServerConfig) -> Engine:
    return Engine(load_model(config.model, device=config.device), engine_config(config))


def engine_config(config: ServerConfig) -> EngineConfig:
    """Returns the engine's part of a server's configuration."""
    return EngineConfig(
        max_sessions=config.max_sessions,
        frame_queue=config.frame_queue,
        max_questions=config.max_questions,
        device_budget_bytes=config.device_budget,
        host_budget_bytes=config.memory_budget,
        disk_budget_bytes=config.disk_budget,
        home=config.home,
        session=SessionConfig(policy=config.policy, host_budget_bytes=config.session_memory_budget),
        archive=ArchiveConfig(
            codec=Codec(config.disk_codec),
            budget_bytes=config.session_disk_budget,
            flush_every_s=config.flush_every_s,
        ),
    )


def _url(config: ServerConfig, port: int) -> str:
    scheme = "http" if config.tls_cert is None else "https"
    return f"{scheme}://{f'[{config.host}]' if ':' in config.host else config.host}:{port}"
