"""Senders at their own pace: a web server that does not state a length, a peer over TCP, another process.

Each is a generator of bytes as they come; closing it closes what it reads.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.incoming_bytes import IncomingBytes

_PIECE_BYTES = 1 << 16

Pieces = Generator[bytes, None, None]


def from_file(file: IncomingBytes) -> Pieces:
    """Yields the bytes of a file as they come."""
    with file:
        while piece := file.read():
            yield piece
            file.expect()


def from_pipe(path: Path) -> Pieces:
    """Yields what another process writes into a pipe."""
    with path.open("rb", buffering=0) as pipe:
        while piece := pipe.read(_PIECE_BYTES):
            yield piece


def from_socket(connection: socket.socket, *, name: str) -> Pieces:
    """Yields what a peer sends.

    Raises:
        SourceStalledError: If it breaks off.
    """
    with connection:
        try:
            while piece := connection.recv(_PIECE_BYTES):
                yield piece
        except OSError as error:
            raise SourceStalledError(f"{name} broke off ({_reason(error)}); check that it is up.") from None


def connect(url: str, *, name: str, timeout_s: float) -> socket.socket:
    """Connects to the host and port of a URL; with `?listen` in it, accepts one connection there.

    Raises:
        SourceStalledError: If nobody answers in time.
        SourceError: If there is no connection.
    """
    try:
        parts = urlsplit(url)
        where = parts.hostname or "", parts.port or 0
        if parse_qs(parts.query, keep_blank_values=True).get("listen", ["0"]) == ["0"]:
            connection = socket.create_connection(where, timeout_s)
        else:
            with socket.create_server(where) as listener:
                listener.settimeout(timeout_s)
                connection, _ = listener.accept()
    except TimeoutError:
        raise SourceStalledError(f"{name} did not answer for {timeout_s:g} s; check that it is up.") from None
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{name} cannot be opened ({_reason(error)}); check the address, and that it is up."
        ) from None
    connection.settimeout(None)  # the reader of the bytes has its own timeout
    return connection


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
