"""What a remembered stream keeps besides its blocks: dialogue, decisions, thumbnails, standing questions, its clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import xxhash

from streamvlm.frame import Picture
from streamvlm.memory.disk.database import checked, open_database, reading

NAME = "diary.db"
_MEND = "move it away to go on without it."
MOST_DECISIONS, MOST_THUMBNAILS, MOST_SPOKEN, MOST_FIRED = 1_000_000, 5_000, 1_000, 64
_THUMBNAIL_PX = 160
_SEAL_BYTES = 8
_SCHEMA = """
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY CHECK (one = 1), time_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (time_s REAL PRIMARY KEY, fidelity TEXT NOT NULL, score REAL NOT NULL);
CREATE TABLE IF NOT EXISTS thumbnails (block INTEGER PRIMARY KEY, time_s REAL NOT NULL, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dialogue (
    number INTEGER PRIMARY KEY, asked_at_s REAL NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    n_tokens INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS standing (
    id TEXT PRIMARY KEY, question TEXT NOT NULL, threshold REAL NOT NULL, release REAL NOT NULL, every_s REAL NOT NULL,
    cool_down_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS fired (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, question TEXT NOT NULL, time_s REAL NOT NULL,
    probability REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS told (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """The gate's decision on a frame; ``block`` and ``picture`` are given if the frame was kept."""

    time_s: float
    fidelity: str
    score: float
    block: int | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question and its answer, in words."""

    asked_at_s: float
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """A question and its answer, as a model has them in view: ``payload`` is the raw bytes of their keys and values."""

    n_tokens: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class DialogueRecord:
    """A question was answered; the last ``n_in_view`` turns, with this one, stay in view."""

    answered: AnsweredQuestion
    turn: DialogueTurn
    n_in_view: int


@dataclass(frozen=True, slots=True)
class ArmedRecord:
    """A standing question was armed; its fields are those of ``StandingQuestion``."""

    standing_id: str
    question: str
    threshold: float
    release: float
    every_s: float
    cool_down_s: float


@dataclass(frozen=True, slots=True)
class DisarmedRecord:
    """A standing question was disarmed."""

    standing_id: str


@dataclass(frozen=True, slots=True)
class FiringRecord:
    """A standing question fired; ``number`` counts the session's firings from 1."""

    number: int
    standing_id: str
    question: str
    time_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A listener got all firings up to this number."""

    number: int


@dataclass(frozen=True, slots=True)
class StandingRecords:
    """The standing questions armed, in order, the last firings, and up to which number a listener got them."""

    armed: tuple[ArmedRecord, ...]
    fired: tuple[FiringRecord, ...]
    n_told: int


Record = FrameRecord | DialogueRecord | ArmedRecord | DisarmedRecord | FiringRecord | DeliveryRecord


class Diary:
    """Records in SQLite: the oldest of each kind are dropped beyond a bound, payloads once their turn is out of view.

    Raises:
        StoreError: If the file is damaged or cannot be used; whatever reads it may find that out later.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._db = open_database(self.path, _SCHEMA, synchronous="NORMAL", mend=_MEND)

    def add(self, records: Iterable[Record]) -> None:
        """Writes records, all or none."""
        records = list(records)
        if not records:
            return
        frames = [record for record in records if isinstance(record, FrameRecord)]
        turns = [record for record in records if isinstance(record, DialogueRecord)]
        pictures = [(e.block, e.time_s, thumbnail(e.picture)) for e in frames if e.picture is not None]
        with self._db:
            self._db.execute("BEGIN")
            if frames:
                self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (frames[-1].time_s,))
            self._db.executemany(
                "INSERT OR REPLACE INTO decisions VALUES (?,?,?)", [(e.time_s, e.fidelity, e.score) for e in frames]
            )
            self._db.executemany("INSERT OR REPLACE INTO thumbnails VALUES (?,?,?)", pictures)
            self._db.executemany(
                "INSERT INTO dialogue VALUES (NULL,?,?,?,?,?)",
                [(*astuple(e.answered), e.turn.n_tokens, _sealed(e.turn.payload)) for e in turns],
            )
            for last in turns[-1:]:
                out_of_view = f"length(payload) > 0 AND {_beyond('dialogue', 'number')}"
                self._db.execute(f"UPDATE dialogue SET payload = x'' WHERE {out_of_view}", (last.n_in_view,))
            for record in records:
                self._add_standing(record)
            self._bound("decisions", "time_s", MOST_DECISIONS)
            self._bound("thumbnails", "block", MOST_THUMBNAILS)
            self._bound("dialogue", "number", MOST_SPOKEN)

    def time_s(self) -> float | None:
        """Returns the stream time of the last frame watched; None if there was none."""
        with self._reading():
            rows = list(checked(self._db.execute("SELECT time_s FROM clock"), float))
        return float(rows[0][0]) if rows else None

    def dialogue(self, most: int) -> list[AnsweredQuestion]:
        """Returns the last questions and answers, oldest first."""
        with self._reading():
            rows = self._db.execute(
                "SELECT asked_at_s, question, answer FROM dialogue ORDER BY number DESC LIMIT ?", (most,)
            )
            return [AnsweredQuestion(*row) for row in reversed([*checked(rows, float, str, str)])]

    def turns(self, most_tokens: int, token_bytes: int) -> list[DialogueTurn]:
        """Returns the last turns, oldest first, of at most so many tokens together, but always the very last."""
        turns: list[DialogueTurn] = []
        with self._reading():
            rows = self._db.execute(
                "SELECT n_tokens, payload FROM dialogue WHERE length(payload) > 0 ORDER BY number DESC"
            )
            for n_tokens, sealed in checked(rows, int, bytes):
                most_tokens -= n_tokens
                if turns and most_tokens < 0:
                    break
                payload = sealed[_SEAL_BYTES:]
                if sealed != _sealed(payload) or len(payload) != n_tokens * token_bytes:
                    raise ValueError(f"{n_tokens} tokens of the dialogue are not as they were written")
                turns.append(DialogueTurn(n_tokens, payload))
        return turns[::-1]

    def standing(self) -> StandingRecords:
        """Returns the standing questions."""
        with self._reading():
            armed = self._db.execute(
                "SELECT id, question, threshold, release, every_s, cool_down_s FROM standing ORDER BY rowid"
            )
            fired = self._db.execute("SELECT number, id, question, time_s, probability FROM fired ORDER BY number")
            told = self._db.execute("SELECT number FROM told")
            return StandingRecords(
                tuple(ArmedRecord(*row) for row in checked(armed, str, str, float, float, float, float)),
                tuple(FiringRecord(*row) for row in checked(fired, int, str, str, float, float)),
                sum(number for (number,) in checked(told, int)),  # one row, or none
            )

    def counts(self) -> dict[str, int]:
        """Returns how many records there are of each kind."""
        with self._reading():
            return {
                table: int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("decisions", "thumbnails", "dialogue")
            }

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, _MEND)

    def _add_standing(self, record: Record) -> None:
        match record:
            case ArmedRecord():
                self._db.execute("INSERT OR REPLACE INTO standing VALUES (?,?,?,?,?,?)", astuple(record))
            case DisarmedRecord():
                self._db.execute("DELETE FROM standing WHERE id = ?", astuple(record))
            case FiringRecord():
                self._db.execute("INSERT OR REPLACE INTO fired VALUES (?,?,?,?,?)", astuple(record))
                self._bound("fired", "number", MOST_FIRED)
            case DeliveryRecord():
                self._db.execute("INSERT OR REPLACE INTO told VALUES (1,?)", astuple(record))

    def _bound(self, table: str, key: str, most: int) -> None:
        self._db.execute(f"DELETE FROM {table} WHERE {_beyond(table, key)}", (most,))


def _sealed(payload: bytes) -> bytes:
    """Returns a payload behind its checksum: nothing else would show that a bit of it has flipped."""
    return xxhash.xxh3_64_digest(payload) + payload


def _beyond(table: str, key: str) -> str:
    """Returns the SQL condition of all rows but the newest so many."""
    return f"{key} <= (SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT 1 OFFSET ?)"


def read_decisions(folder: Path, start_s: float, stop_s: float) -> list[FrameRecord]:
    """Returns the decisions on the frames of [start_s, stop_s), while another thread may be writing.

    Raises:
        StoreError: If the diary is damaged or cannot be used.
    """
    with reading(folder / NAME, _MEND), closing(_reader(folder)) as db:
        rows = db.execute(
            "SELECT time_s, fidelity, score FROM decisions WHERE time_s >= ? AND time_s < ? ORDER BY time_s",
            (start_s, stop_s),
        )
        return [FrameRecord(*row) for row in checked(rows, float, str, float)]


def read_thumbnail(folder: Path, block: int) -> bytes | None:
    """Returns a block's small JPEG, while another thread may be writing; None if there is none.

    Raises:
        StoreError: If the diary is damaged or cannot be used.
    """
    with reading(folder / NAME, _MEND), closing(_reader(folder)) as db:
        rows = list(checked(db.execute("SELECT jpeg FROM thumbnails WHERE block = ?", (block,)), bytes))
    return bytes(rows[0][0]) if rows else None


def _reader(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{(folder / NAME).absolute().as_uri()}?mode=ro", uri=True)


def thumbnail(picture: Picture) -> bytes:
    """Returns a small JPEG of a picture."""
    height, width = picture.shape[:2]
    scale = _THUMBNAIL_PX / max(height, width)
    small = cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert done, "a uint8 picture can always be written as JPEG"
    return data.tobytes()
