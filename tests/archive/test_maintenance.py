"""A lost catalog comes back: blocks from the segments, and from the gate's log how long each stood."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from breakable_disk import LAYOUT, put

from streamvlm.archive.archive import ArchiveCard, ArchiveConfig
from streamvlm.archive.diary import Diary, FrameRecord
from streamvlm.archive.maintenance import repair
from streamvlm.memory.disk.store import DiskStore


def opened(folder: Path) -> closing[DiskStore]:
    return closing(DiskStore(folder, LAYOUT, "m", budget_bytes=8 << 20))


def ends_s(folder: Path) -> dict[int, float]:
    with opened(folder) as store:
        return {block.id: block.end_s for block in store.blocks()}


def left(folder: Path, ids: Iterable[int], known_ends_s: dict[int, float], decided: str) -> Path:
    """A memory whose blocks begin at the second of their id, and whose log says of each half second K, d or nothing."""
    (folder / "session.json").write_text(json.dumps(asdict(ArchiveCard(2, "m", "m", "l", 0.0, ArchiveConfig()))))
    with opened(folder) as store:
        store.commit([put(i) for i in ids], {})
        store.commit([], known_ends_s)
    with closing(Diary(folder)) as diary:
        fidelity = {"K": "clear", "d": "discarded"}
        diary.add([FrameRecord(i / 2, fidelity[one], 1.0) for i, one in enumerate(decided) if one in fidelity])
    return folder


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ("KdKdK", {0: 0.5, 1: 1.5, 2: 2.0}),
        ("KdKdKddd", {0: 0.5, 1: 1.5, 2: 3.5}),
        ("Kd  Kd", {0: 0.5, 1: 1.0, 2: 2.5}),  # of the block between, no decision was kept
        ("Kd ddKd", {0: 0.5, 1: 1.5, 2: 2.0}),  # and of frame 2.5 no block
        ("    Kd", {0: 0.0, 1: 1.0, 2: 2.5}),
        ("", {0: 0.0, 1: 1.0, 2: 2.0}),
    ],
)
def test_repair_takes_ends_from_the_log_as_far_as_it_goes(
    tmp_path: Path, decided: str, expected: dict[int, float]
) -> None:
    folder = left(tmp_path, range(3), {}, decided)
    (folder / "catalog.db").unlink()
    assert repair(folder, on_event=pytest.fail) == (3, 0)
    assert ends_s(folder) == expected


def test_repair_does_without_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    folder = left(tmp_path, range(3), {2: 9.0}, "KdKdKd")
    (folder / "catalog.db").unlink()
    (folder / "diary.db").write_bytes(b"nonsense" * 1000)
    events: list[str] = []
    assert repair(folder, on_event=events.append) == (3, 0)
    assert ends_s(folder) == {0: 0.0, 1: 1.0, 2: 2.0}
    (event,) = events
    assert "diary.db is damaged" in event
