"""What needs no model loads none: it is told at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("av", "cv2", "faiss", "huggingface_hub", "numpy", "PIL", "scipy", "torch", "transformers")
"""Libraries that take a tenth of a second and more to load, some of them many."""


@pytest.mark.parametrize(
    "words",
    ["--help", "models", "ask --help", "memory ls --help", "serve --help", "watch --help", "world --help"],
)
def test_a_command_that_needs_no_model_loads_no_slow_library(words: str) -> None:
    command = f"import sys; from streamvlm.cli import main; main({words.split()}, standalone_mode=False)"
    told = subprocess.run(
        [sys.executable, "-c", f"{command}; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    *_, loaded = told.splitlines()
    assert set(SLOW) & set(loaded.split()) == set()
