"""What holds for every test: no network, one core a thread, one device, a repeatable amount of random examples."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click
import pytest
import torch
from hypothesis import settings

from streamvlm.cli import main

if TYPE_CHECKING:
    from streamvlm.models.base import VideoLanguageModel

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, so before any test module is
# Here and in every process that tests start. A team of threads waits for each other by spinning: on a machine that does
# other things, each small operation waits for its slowest member to get its turn.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
torch.backends.cudnn.allow_tf32 = False  # as exact as what it is compared with
# What must pass is the same each time; on a developer's machine new examples are looked for.
settings.register_profile("streamvlm", deadline=None, max_examples=25, derandomize="CI" in os.environ)
settings.load_profile("streamvlm")


pytest_plugins = ("decoder_fixtures", "stream_fixtures")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask for the device."""
    parser.addoption("--device", default="cpu", help="where models run: cpu, cuda, cuda:N, auto, or pretended")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a device that is not there before any test is run on it."""
    if config.option.device == "pretended":
        config.option.device = _pretend(config)
    if config.option.device != "cpu":
        from streamvlm.errors import UsageError
        from streamvlm.models.registry import find_device

        try:
            config.option.device = str(find_device(config.option.device))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    main.context_settings["default_map"] = _on(config.option.device, main)


def _pretend(config: pytest.Config) -> str:
    """Put all tests on a GPU that there is not, but those with processes of their own, which know of none."""
    from pretended_gpu import GPU, pretended_gpu

    start = subprocess.Popen.__init__

    def start_or_skip(process: Any, command: Any, *args: Any, **settings: Any) -> None:
        if str(GPU) in command:
            pytest.skip("a pretended GPU is there for this process alone")
        start(process, command, *args, **settings)

    opened = ExitStack()
    opened.enter_context(pretended_gpu())
    opened.enter_context(pytest.MonkeyPatch.context()).setattr(subprocess.Popen, "__init__", start_or_skip)
    config.add_cleanup(opened.close)
    return str(GPU)


def _on(device: str, command: click.Command) -> dict[str, Any]:
    """Defaults by which a command of the CLI, run here, computes on that device where none is given."""
    if isinstance(command, click.Group):
        return {name: _on(device, below) for name, below in command.commands.items()}
    return {"device": device}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores, as many tests wait; each takes 1 to 2 GB, so four at most."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_report_header(config: pytest.Config) -> str:
    """Name the device, and the libraries whose version may decide a failure."""
    names = ("streamvlm", "torch", "transformers", "numpy", "av", "opencv-python-headless")
    return f"device {config.option.device}, " + ", ".join(f"{name} {version(name)}" for name in names)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what holds on another kind of device alone."""
    for marker in item.iter_markers("only_on"):
        kind, why = marker.args
        if torch.device(item.config.option.device).type != kind:
            pytest.skip(f"{kind} only: {why}")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where models and sessions run, and what they are compared with."""
    return str(request.config.option.device)


@pytest.fixture(scope="session")
def pocket(device: str) -> VideoLanguageModel:
    """The bundled model."""
    from streamvlm.models.registry import load_model

    return load_model("pocket", device=device)
