"""What holds for every test: no network, one core a thread, a repeatable amount of random examples."""

from __future__ import annotations

import os
from importlib.metadata import version

from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, so before any test module is
# Read when torch is imported, here and in every process that tests start. A team of threads waits for each other by
# spinning: on a machine that does other things, each small operation waits for its slowest member to get its turn.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What must pass is the same each time; on a developer's machine new examples are looked for.
settings.register_profile("streamvlm", deadline=None, max_examples=25, derandomize="CI" in os.environ)
settings.load_profile("streamvlm")


def pytest_report_header() -> str:
    """Name the libraries whose version may decide a failure."""
    names = ("streamvlm", "torch", "transformers", "numpy", "av", "opencv-python-headless")
    return ", ".join(f"{name} {version(name)}" for name in names)
