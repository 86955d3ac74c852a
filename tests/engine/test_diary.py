"""What a stream keeps besides its blocks: bounded, and a damaged file of it is one sentence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streamvlm.engine.diary import Armed, Diary, Entry, Rang, Spoken, ToldOf, Watched, read_decisions, read_thumbnail
from streamvlm.errors import StoreError

FLIPS_A_PAGE = 10


def written(folder: Path, entries: Iterable[Entry]) -> Path:
    with closing(Diary(folder)) as diary:
        diary.add(entries)
    return folder


def entries_of_a_day() -> list[Entry]:
    picture = np.full((90, 160, 3), 77, np.uint8)
    return [
        *(Watched(float(i), "clear", 1.5, i, picture) for i in range(8)),
        *(Spoken(float(i), f"what was {i}?", "a circle", 3, bytes(30)) for i in range(40)),
        *(Armed(f"standing-{i}", "is it?", 0.5, 0.4, 10.0, 60.0) for i in range(30)),
        *(Rang(i, "standing-1", "is it?", float(i), 0.75) for i in range(1, 30)),
        ToldOf(29),
    ]


def read_all(folder: Path) -> object:
    """Everything that anybody reads of a diary."""
    with closing(Diary(folder)) as diary:
        own = diary.time_s(), diary.dialogue(100), diary.standing(), diary.counts()
    return own, read_decisions(folder, 0.0, 1e9), [read_thumbnail(folder, i) for i in range(8)]


def test_a_flip_in_any_page_of_the_diary_is_a_sentence_or_an_entry(tmp_path: Path) -> None:
    whole = written(tmp_path, entries_of_a_day())
    before = read_all(whole)
    folder = shutil.copytree(whole, tmp_path / "flipped")
    path, rng = folder / "diary.db", random.Random(0)
    data, refused = path.read_bytes(), list[str]()
    for page in range(0, len(data), 4096):
        for at in [page, *(page + rng.randrange(4096) for _ in range(FLIPS_A_PAGE))]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            try:
                read_all(folder)
            except StoreError as error:
                refused.append(str(error))
    assert refused
    assert all("diary.db is damaged" in sentence and "\n" not in sentence for sentence in refused)
    path.write_bytes(data)
    assert read_all(folder) == before


@pytest.mark.parametrize(
    "read", [lambda folder: read_decisions(folder, 0, 9), lambda folder: read_thumbnail(folder, 1)]
)
def test_a_diary_that_is_not_there_is_one_sentence(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(StoreError, match=r"diary.db cannot be used \(unable to open"):
        read(tmp_path)
