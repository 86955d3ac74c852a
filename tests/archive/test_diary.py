"""What a stream keeps besides its blocks: bounded, and a damaged file of it is one sentence."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from flips import flips

from streamvlm.archive.diary import (
    MOST_SPOKEN,
    AnsweredQuestion,
    ArmedRecord,
    DeliveryRecord,
    DialogueRecord,
    DialogueTurn,
    Diary,
    FiringRecord,
    FrameRecord,
    Record,
    read_decisions,
    read_thumbnail,
)
from streamvlm.errors import StoreError

FLIPS_A_PAGE = 10


TOKEN_BYTES = 10


def spoken(i: int, n_tokens: int = 3, n_in_view: int = 5) -> DialogueRecord:
    turn = DialogueTurn(n_tokens, bytes([1 + i % 255]) * (n_tokens * TOKEN_BYTES))
    return DialogueRecord(AnsweredQuestion(float(i), f"what was {i}?", "a circle"), turn, n_in_view)


def written(folder: Path, records: Iterable[Record]) -> Path:
    with closing(Diary(folder)) as diary:
        diary.add(records)
    return folder


def records_of_a_day() -> list[Record]:
    picture = np.full((90, 160, 3), 77, np.uint8)
    return [
        *(FrameRecord(float(i), "clear", 1.5, i, picture) for i in range(8)),
        *(spoken(i) for i in range(40)),
        *(ArmedRecord(f"standing-{i}", "is it?", 0.5, 0.4, 10.0, 60.0) for i in range(30)),
        *(FiringRecord(i, "standing-1", "is it?", float(i), 0.75) for i in range(1, 30)),
        DeliveryRecord(29),
    ]


def read_all(folder: Path) -> object:
    """Everything that anybody reads of a diary."""
    with closing(Diary(folder)) as diary:
        own = diary.time_s(), diary.dialogue(100), diary.turns(99, TOKEN_BYTES), diary.standing(), diary.counts()
    return own, read_decisions(folder, 0.0, 1e9), [read_thumbnail(folder, i) for i in range(8)]


def test_a_flip_in_any_page_of_the_diary_is_a_sentence_or_an_entry(tmp_path: Path) -> None:
    whole = written(tmp_path, records_of_a_day())
    before = read_all(whole)
    folder = shutil.copytree(whole, tmp_path / "flipped")
    path = folder / "diary.db"
    data, refused = path.read_bytes(), list[str]()
    for flipped in flips(data, FLIPS_A_PAGE):
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


def test_of_what_was_said_the_words_stay_and_payloads_only_while_they_are_in_view(tmp_path: Path) -> None:
    n_tokens, n_turns = 10_000, 100
    with closing(Diary(tmp_path)) as diary:
        for i in range(n_turns):
            diary.add([spoken(i, n_tokens, n_in_view=3)])
        assert diary.turns(10**9, TOKEN_BYTES) == [spoken(i, n_tokens).turn for i in range(n_turns - 3, n_turns)]
        assert diary.turns(25_000, TOKEN_BYTES) == [spoken(i, n_tokens).turn for i in range(n_turns - 2, n_turns)]
        assert diary.turns(1, TOKEN_BYTES) == [spoken(n_turns - 1, n_tokens).turn], "never without the last"
        assert diary.dialogue(n_turns) == [spoken(i).answered for i in range(n_turns)]
    assert (tmp_path / "diary.db").stat().st_size < n_turns * n_tokens * TOKEN_BYTES / 10


def test_words_are_bounded_too(tmp_path: Path) -> None:
    with closing(Diary(tmp_path)) as diary:
        diary.add([spoken(i, 1, n_in_view=1) for i in range(MOST_SPOKEN + 7)])
        assert diary.counts()["dialogue"] == MOST_SPOKEN
        assert diary.dialogue(1) == [spoken(MOST_SPOKEN + 6).answered]


@pytest.mark.parametrize("change", ["payload = x'0102'", "payload = zeroblob(38)", "n_tokens = 2"])
def test_a_turn_that_is_not_as_it_was_written_is_damage(tmp_path: Path, change: str) -> None:
    folder = written(tmp_path, [spoken(0), spoken(1)])
    with closing(sqlite3.connect(folder / "diary.db")) as database, database:
        database.execute(f"UPDATE dialogue SET {change} WHERE number = 1")
    with closing(Diary(folder)) as diary:
        with pytest.raises(StoreError, match=r"tokens of the dialogue are not as they were written.*move it away"):
            diary.turns(9, TOKEN_BYTES)
        assert diary.dialogue(9) == [spoken(0).answered, spoken(1).answered], "the words can be read"
        assert diary.turns(3, TOKEN_BYTES) == [spoken(1).turn], "and what is no longer in view does no harm"
