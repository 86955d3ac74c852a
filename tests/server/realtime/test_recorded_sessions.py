"""Sessions that were recorded go the same way again, to the byte."""

from __future__ import annotations

import secrets
from itertools import count
from pathlib import Path

import pytest
from recorded_session import play

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.txt"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.stem)
def test_a_recorded_session_goes_the_same_way_again(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()  # ids are random, and here they are counted
    monkeypatch.setattr(secrets, "token_hex", lambda n_bytes: f"{next(numbers):0{2 * n_bytes}x}")
    assert play(recording).encode() == recording.read_bytes()
