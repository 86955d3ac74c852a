"""What all cells share: inputs made once, a site that sends them, a server, and a model that is loaded once."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from doors import Doors
from kinds import table
from kinds.larder import Larder, Sender
from live_server import live_server
from web_site import Site, serving

from streamvlm.models import registry
from streamvlm.models.base import VideoLanguageModel

TABLE = Path(__file__).parents[2] / "docs" / "results" / "inputs.md"
_CAME = pytest.StashKey[dict[tuple[str, str], table.Cell]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask whether the table is to be written."""
    parser.addoption("--write-table", action="store_true", help=f"write {TABLE.name} of what came of the inputs")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CAME] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the table if it was asked for and all of it is right."""
    if not config.getoption("--write-table", False):
        return
    came = config.stash[_CAME]
    n_lacking = len(set(table.places()) - set(came))
    if not n_lacking:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(table.render(came), "utf-8")
    terminalreporter.write_line(
        f"{TABLE} is {f'as before: {n_lacking} cells are not right' if n_lacking else 'written'}"
    )


@pytest.fixture(scope="session")
def came(pytestconfig: pytest.Config) -> dict[tuple[str, str], table.Cell]:
    """What came of each cell, of those that are right."""
    return pytestconfig.stash[_CAME]


@pytest.fixture(scope="session")
def committed(pytestconfig: pytest.Config) -> str:
    """The table as it is in the repository."""
    if pytestconfig.getoption("--write-table", False):
        pytest.skip("the table is being written")
    return TABLE.read_text("utf-8")


@pytest.fixture(scope="session")
def larder(tmp_path_factory: pytest.TempPathFactory) -> Larder:
    os.environ["SVT_LOG"] = "1"  # or its encoder talks of every video
    return Larder(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def site(larder: Larder) -> Iterator[Site]:
    with serving("127.0.0.1", larder.folder) as running:
        running.RequestHandlerClass = Sender
        yield running


@pytest.fixture(scope="session")
def doors(pocket: VideoLanguageModel) -> Iterator[Doors]:
    """All doors; whoever loads a model gets the one that was loaded before."""
    here = {"allowed_media_hosts": ["127.0.0.1"], "allowed_media_networks": ["127.0.0.0/8"]}
    settings = {**here, "allowed_media_schemes": ["http"], "frame_queue": 64, "max_sessions": 64, "linger_s": 0}
    with (
        pytest.MonkeyPatch.context() as patched,
        live_server(pocket, **settings) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        patched.setattr(registry, "load_model", functools.cache(registry.load_model))
        yield Doors(server, client)
