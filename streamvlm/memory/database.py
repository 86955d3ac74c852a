"""How the SQLite files of a memory are opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from streamvlm.errors import StoreError


def open_database(path: Path, schema: str, *, synchronous: str, mend: str) -> sqlite3.Connection:
    """Opens a database with a write-ahead log, and makes its tables where they are missing.

    Args:
        path: The file, made if it is not there.
        schema: ``CREATE TABLE IF NOT EXISTS`` statements.
        synchronous: ``FULL`` survives a power cut from the commit on, ``NORMAL`` a killed process.
        mend: What to do when it is damaged.

    Raises:
        StoreError: If it is damaged.
    """
    # One thread at a time uses it, but not always the one that opened it.
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.executescript(schema)
    except sqlite3.DatabaseError as error:
        database.close()
        raise StoreError(f"{path} is damaged ({error}); {mend}") from error
    return database
