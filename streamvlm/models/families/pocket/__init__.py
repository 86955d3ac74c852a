"""Pocket, the bundled model: its eye, its vocabulary and prompts, and its checkpoint."""

from pathlib import Path

CHECKPOINT = Path(__file__).with_name("checkpoint")
