"""A fresh protocol over a scripted stream; and a real server, with a short stream of the synthetic world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import LiveServer, live_server
from protocol_client import Client
from websocket_peer import as_png

from streamvlm.frame import Picture
from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import make_world
from streamvlm.world.render import render


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture(scope="session")
def live(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose sessions take a clip as fast as it comes, and drop nothing of it."""
    home = tmp_path_factory.mktemp("realtime")
    with live_server(
        pocket, home=home, frame_queue=256, max_sessions=12, linger_s=0.5, flush_every_s=3600.0
    ) as running:
        yield running


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    """40 seconds of a world, at 1 frame/s."""
    world = make_world(4_000_000, 40)
    return [render(world, float(second)) for second in range(40)]


@pytest.fixture(scope="session")
def pngs(pictures: list[Picture]) -> list[bytes]:
    """The same, encoded without loss."""
    return [as_png(picture) for picture in pictures]
