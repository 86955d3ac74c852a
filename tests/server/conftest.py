"""One server for all tests that need no settings of their own, and a short stream of the synthetic world."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import trustme
from live_server import LiveServer, live_server

from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import World, make_world
from streamvlm.world.video import write_video


@pytest.fixture(scope="session")
def server(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a home; sessions in it belong to the test that opens them, and end with their connections."""
    with live_server(pocket, home=tmp_path_factory.mktemp("home"), linger_s=0) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, unmodified."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="session")
def world() -> World:
    return replace(make_world(4_000_000, 30), duration_s=17)  # an orange heart at 4 s, an orange star at 14 s


@pytest.fixture(scope="session")
def clip(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "world.mp4"
    write_video(world, path)
    return path


@pytest.fixture(scope="session")
def clip_url(clip: Path) -> str:
    """The clip as a data URL."""
    return f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Files of a certificate chain for this machine, its key, and whoever vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    paths = folder / "cert.pem", folder / "key.pem", folder / "authority.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(paths[0]), append=True)
    issued.private_key_pem.write_to_path(str(paths[1]))
    authority.cert_pem.write_to_path(str(paths[2]))
    return paths
