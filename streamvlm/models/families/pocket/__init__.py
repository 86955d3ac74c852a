"""Pocket, the bundled model: what it sees, how it is spoken to, and its checkpoint."""

from pathlib import Path

CHECKPOINT = Path(__file__).with_name("checkpoint")
