"""What a process knows of a stream is, to the last bit, what the one that watched it knew."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import logits
import torch
from logits import logits_of

from streamvlm.archive.archive import Archive
from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import make_world
from streamvlm.world.render import render

SECONDS, AT_S = 90, 80.0


def test_logits_after_eviction_disk_and_a_new_process_are_those_of_a_stream_that_never_left_ram(
    pocket: VideoLanguageModel, tmp_path: Path, device: str
) -> None:
    world = make_world(5, SECONDS)
    frames = [Frame(second, float(second), render(world, float(second))) for second in range(SECONDS)]
    question = f"where was the {world.appearances[0].thing.name}?"
    in_ram = Session(pocket)
    in_ram.observe(frames)
    expected, n_fetched = logits_of(in_ram, question, AT_S)
    assert n_fetched, "older blocks than the window's are looked at"

    hardly_more_than_the_window = SessionConfig(host_budget_bytes=14 * (13 * pocket.layout.token_bytes + 4096))
    with closing(Archive(tmp_path / "memory", pocket, on_event=print)) as archive:
        session = Session(pocket, hardly_more_than_the_window, archive=archive)
        session.observe(frames)
        session.flush()
        assert session.memory.host_bytes < in_ram.memory.host_bytes
        evicted, _ = logits_of(session, question, AT_S)
    assert torch.equal(evicted, expected)

    saved = tmp_path / "logits.pt"
    command = [sys.executable, logits.__file__, str(tmp_path / "memory"), question, str(AT_S), str(saved), device]
    subprocess.run(command, check=True)
    assert torch.equal(torch.load(saved), expected)
