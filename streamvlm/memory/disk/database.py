"""How the SQLite files of a memory are opened and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamvlm.errors import StoreError

_OF_THE_SYSTEM = {
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
"""Codes of errors that say nothing against the file: rights, locks, and the disk below."""


def open_database(path: Path, schema: str, *, synchronous: str, mend: str) -> sqlite3.Connection:
    """Opens a database with a write-ahead log, and makes its tables where they are missing.

    Args:
        path: The file, made if it is not there.
        schema: ``CREATE TABLE IF NOT EXISTS`` statements.
        synchronous: ``FULL`` survives a power cut from the commit on, ``NORMAL`` a killed process.
        mend: What to do when it is damaged.

    Raises:
        StoreError: If it is damaged, or cannot be used as things are.
    """
    with reading(path, mend):
        # One thread at a time uses it, but not always the one that opened it.
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={synchronous}")
            database.executescript(schema)
        except BaseException:
            database.close()
            raise
    return database


@contextmanager
def reading(path: Path, mend: str) -> Iterator[None]:
    """Makes one sentence of whatever goes wrong while rows are read, and made into what they stand for.

    Args:
        path: The file.
        mend: What to do when it is damaged.

    Raises:
        StoreError: If it is damaged, or cannot be used as things are.
    """
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        cause = " ".join(str(error).split())
        # The extended codes have the plain one in their last byte; what the sqlite3 module finds for itself has none.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_SYSTEM:
            raise StoreError(f"{path} cannot be used ({cause}); see to its disk and its rights.") from error
        raise StoreError(f"{path} is damaged ({cause}); {mend}") from error


def checked(rows: Iterable[tuple[Any, ...]], *types: type | tuple[type, ...]) -> Iterator[tuple[Any, ...]]:
    """Passes rows on that hold values of these types: SQLite itself gives back whatever a damaged row says.

    Raises:
        TypeError: If one holds others.
    """
    for row in rows:
        if not all(map(isinstance, row, types)):
            raise TypeError(f"a row that begins with {str(row[0])[:40]!r} holds values of the wrong kind")
        yield row
