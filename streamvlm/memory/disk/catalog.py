"""The catalog: which slot holds which block, in SQLite; a block is remembered from its row's commit on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

from streamvlm.errors import StoreError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock, Positions
from streamvlm.memory.disk.codec import Codec
from streamvlm.memory.disk.database import checked, open_database, reading
from streamvlm.memory.disk.segment import PATTERN

NAME = "catalog.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, slot INTEGER NOT NULL, sequence INTEGER NOT NULL,
    start_s REAL NOT NULL, end_s REAL NOT NULL, fidelity TEXT NOT NULL, score REAL NOT NULL,
    n_tokens INTEGER NOT NULL, codec TEXT NOT NULL, positions BLOB, extent INTEGER,
    UNIQUE (segment, slot)
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_TABLES = {"blocks", "counters"}
_COLUMNS: dict[str, type | tuple[type, ...]] = {
    "id": int, "start_s": float, "end_s": float, "fidelity": str, "score": float, "n_tokens": int,
    "positions": (bytes, NoneType), "extent": (int, NoneType), "segment": int, "slot": int, "sequence": int,
    "codec": str,
}  # fmt: skip
"""What is read of a block, and what it can be."""


@dataclass(frozen=True, slots=True)
class BlockLocation:
    """Where a block lies, and its entry as stored: a faded block has fewer tokens than it came with."""

    block: KVBlock
    segment: int
    slot: int
    sequence: int
    codec: Codec


class Catalog:
    """Rows of committed blocks.

    Write-ahead log with full synchronisation: once a commit returns, kill -9 and power cuts leave its rows alone.

    Raises:
        StoreError: If the file is damaged or cannot be used, or is missing where there are segments.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        if not (self.path.exists() and self.path.stat().st_size) and any(folder.glob(PATTERN)):
            # An empty one in its place would call every slot free, and the stream would write over its past.
            raise StoreError(f"{self.path} is missing and there are segments; run: streamvlm memory repair {folder}")
        self._mend = f"run: streamvlm memory repair {folder}"
        self._db = open_database(self.path, _SCHEMA, synchronous="FULL", mend=self._mend)
        try:
            self._check()
        except BaseException:
            self._db.close()
            raise

    def places(self) -> list[BlockLocation]:
        """Returns all committed blocks in order of their ids; StoreError if a row is damaged."""
        with self._reading():
            rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM blocks ORDER BY id")
            return [_place(*row) for row in checked(rows, *_COLUMNS.values())]

    def next_id(self) -> int:
        """Returns one more than every id ever committed, also of blocks forgotten since; StoreError if damaged."""
        with self._reading():
            newest = self._db.execute(
                "SELECT coalesce(max(value), 0) FROM "
                "(SELECT value FROM counters WHERE name = 'next_id' UNION ALL SELECT max(id) + 1 FROM blocks)"
            )
            ((next_id,),) = checked(newest, int)
        return int(next_id)

    def commit(self, places: Iterable[BlockLocation], ends_s: Mapping[int, float], dropped: Iterable[int]) -> None:
        """Adds or moves blocks, lets blocks stand for longer, and drops blocks, all or nothing."""
        rows = [
            (p.block.id, p.segment, p.slot, p.sequence, p.block.start_s, p.block.end_s, str(p.block.fidelity),
             p.block.score, p.block.n_tokens, str(p.codec), *_position_columns(p.block))
            for p in places
        ]  # fmt: skip
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("DELETE FROM blocks WHERE id = ?", [(i,) for i in dropped])
            self._db.executemany("INSERT OR REPLACE INTO blocks VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            self._db.executemany("UPDATE blocks SET end_s = ? WHERE id = ?", [(end, i) for i, end in ends_s.items()])
            if rows:
                newest = max(row[0] for row in rows) + 1
                self._db.execute(
                    "INSERT INTO counters VALUES ('next_id', ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                    (newest,),
                )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, self._mend)

    def _check(self) -> None:
        """Refuses a file whose pages do not add up: the slots of rows lost in it would be written over."""
        with self._reading():
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            if tables != _TABLES or found != "ok":
                raise ValueError("its pages do not add up")


def _place(
    i: int, start_s: float, end_s: float, fidelity: str, score: float, n_tokens: int, data: bytes | None,
    extent: int, segment: int, slot: int, sequence: int, codec: str,
) -> BlockLocation:  # fmt: skip
    if not -math.inf < start_s <= end_s < math.inf:
        raise ValueError(f"block {i} stands from {start_s:g} s to {end_s:g} s")
    positions = Positions(data, extent) if data else None
    block = KVBlock(i, start_s, end_s, Fidelity(fidelity), score, n_tokens, positions)
    return BlockLocation(block, segment, slot, sequence, Codec(codec))


def _position_columns(block: KVBlock) -> tuple[bytes | None, int | None]:
    return (block.positions.data, block.positions.extent) if block.positions else (None, None)
