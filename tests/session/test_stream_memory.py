"""What a stream reads of its blocks: all that there still is, whatever has become of the others."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tiny_model import TinyModel, colour

from streamvlm.archive.archive import Archive
from streamvlm.frame import Frame
from streamvlm.gate.gate import GateConfig
from streamvlm.memory.block import PAGE_BYTES
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session

SMALL = SessionConfig(window_blocks=4, host_budget_bytes=8 * PAGE_BYTES, gate=GateConfig(max_gap_s=1.0))


def test_what_has_gone_from_disk_behind_the_streams_back_is_forgotten_when_it_is_asked_for(
    tmp_path: Path, device: str
) -> None:
    events: list[str] = []
    with closing(Archive(tmp_path, TinyModel(device), on_event=events.append)) as archive:
        session = Session(TinyModel(device), SMALL, archive=archive)
        session.observe(Frame(i, float(i), colour(i)) for i in range(40))
        session.flush()
        ids = [block.id for block in session.blocks()]
        assert session.memory.host_bytes < len(ids) * PAGE_BYTES
        gone = ids[2:9:3]
        for block_id in gone:
            archive.store.quarantine(block_id)
        left = [block_id for block_id in ids if block_id not in gone]
        assert [kept.block_id for kept in session.stream_memory.read(ids)] == left
        assert [block.id for block in session.blocks()] == left
        assert session.ask("what did you see?").answer.text
        session.close()
