"""The parts that every endpoint shares."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from streamvlm.engine.engine import Engine
from streamvlm_server.access.keys import ApiKeys, Principal
from streamvlm_server.chat.admission_queue import AdmissionQueue
from streamvlm_server.config import ServerConfig
from streamvlm_server.hosting.drain import Drain
from streamvlm_server.monitoring.metrics import Metrics
from streamvlm_server.session_leases import SessionLeases
from streamvlm_server.untrusted.fetch import MediaFetcher
from streamvlm_server.untrusted.picture import PictureBounds


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running server; ``app.state.service`` holds it."""

    engine: Engine
    config: ServerConfig
    keys: ApiKeys
    drain: Drain
    fetcher: MediaFetcher
    metrics: Metrics
    session_leases: SessionLeases
    admission_queue: AdmissionQueue

    @property
    def bounds(self) -> PictureBounds:
        """How large a picture may be."""
        return PictureBounds(self.config.max_picture, self.config.max_picture_px)


def service_of(connection: HTTPConnection) -> Service:
    """Returns the service of a request or WebSocket."""
    service: Service = connection.app.state.service
    return service


def principal_of(connection: HTTPConnection) -> Principal:
    """Returns the sender of a request or WebSocket under ``/v1``, as the guard has found it."""
    principal: Principal = connection.state.principal
    return principal
