"""The catalog: which slot holds which block, in SQLite; a block is remembered from its row's commit on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamvlm.errors import StoreError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock, Positions
from streamvlm.memory.codec import Codec
from streamvlm.memory.database import open_database
from streamvlm.memory.segment import PATTERN

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block lies, and its line as stored: a faded block has fewer tokens than it came with."""

    block: KVBlock
    segment: int
    slot: int
    sequence: int
    codec: Codec


class Catalog:
    """Rows of committed blocks.

    Write-ahead log with full synchronisation: once a commit returns, kill -9 and power cuts leave its rows alone.

    Raises:
        StoreError: If the file is damaged, or missing where there are segments.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        if not self.path.exists() and any(folder.glob(PATTERN)):
            # An empty one in its place would call every slot free, and the stream would write over its past.
            raise StoreError(f"{self.path} is missing and there are segments; run: streamvlm memory repair {folder}")
        mend = f"run: streamvlm memory repair {folder}"
        self._db = open_database(self.path, _SCHEMA, synchronous="FULL", mend=mend)

    def places(self) -> list[Place]:
        """All committed blocks in order of their ids."""
        rows = self._db.execute(
            "SELECT id, start_s, end_s, fidelity, score, n_tokens, positions, extent, segment, slot, sequence, codec "
            "FROM blocks ORDER BY id"
        )
        return [
            Place(
                KVBlock(i, start, end, Fidelity(fidelity), score, n, Positions(data, extent) if data else None),
                segment, slot, sequence, Codec(codec),
            )
            for i, start, end, fidelity, score, n, data, extent, segment, slot, sequence, codec in rows
        ]  # fmt: skip

    def next_id(self) -> int:
        """One above every id that was ever committed, also of blocks forgotten since."""
        row = self._db.execute("SELECT value FROM counters WHERE name = 'next_id'").fetchone()
        return int(row[0]) if row else 0

    def commit(self, places: Iterable[Place], ends_s: Mapping[int, float], dropped: Iterable[int]) -> None:
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


def _position_columns(block: KVBlock) -> tuple[bytes | None, int | None]:
    return (block.positions.data, block.positions.extent) if block.positions else (None, None)
