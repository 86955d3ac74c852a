"""The folders in which the sessions of an engine rest, named by their ids, within one budget of disk."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

from streamvlm.archive.archive import locked
from streamvlm.archive.ownership import Ownership
from streamvlm.errors import StoreError, UsageError
from streamvlm.memory.disk.quota import DiskQuota
from streamvlm.memory.disk.segment import PATTERN

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REMOVED = ".removed-"
"""Prefix of folders that hold a session that is being removed; no session id begins so."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session that is open, or rests on disk.

    Attributes:
        id: By which it is taken up again.
        owner: The owner's name; "" if there is none.
        is_open: Whether it has a place in the engine now.
        used_unix_s: When it was last opened or written to.
    """

    id: str
    owner: str
    is_open: bool
    used_unix_s: float


def is_session_id(text: str) -> bool:
    """Whether this can name a session, and so a folder: nothing that leads out of the root folder."""
    return _ID.fullmatch(text) is not None


def check_session_id(text: str) -> str:
    """Returns the id itself; raises ``UsageError`` if it cannot name a session."""
    if not is_session_id(text):
        raise UsageError(f"{text[:80]!r} cannot name a session; give 1 to 64 letters, digits, underscores and hyphens.")
    return text


class SessionFolders:
    """The folders of sessions.

    Args:
        root: Holds them, made if it is not there; None: nothing rests anywhere.
        budget_bytes: Most bytes of their blocks, of sessions open and at rest.

    Attributes:
        quota: Counts these bytes.

    Raises:
        StoreError: If nothing can be written there.
    """

    def __init__(self, root: Path | None, budget_bytes: int) -> None:
        self._root = root
        used_bytes = 0
        if root is not None:
            _check_root(root)
            for removed in root.glob(f"{_REMOVED}*"):
                shutil.rmtree(removed, ignore_errors=True)  # of a process that was killed while it removed a session
            used_bytes = _bytes(root.glob(f"*/{PATTERN}"))
        self.quota = DiskQuota(budget_bytes, used_bytes)

    def folder(self, session_id: str) -> Path | None:
        """Returns a session's folder, whether it is there or not; None if there is no root."""
        return None if self._root is None else self._root / session_id

    def ownership(self, session_id: str) -> Ownership | None:
        """Returns the ownership of a session that rests here; None if there is none.

        Raises:
            StoreError: If that cannot be read.
        """
        folder = self.folder(session_id)
        return Ownership.load(folder) if folder is not None and folder.is_dir() else None

    def sessions(self) -> list[SessionInfo]:
        """Returns all sessions that rest here and can be read."""
        folders = self._root.iterdir() if self._root is not None and self._root.is_dir() else ()
        found = (_at_rest(folder) for folder in folders if is_session_id(folder.name) and folder.is_dir())
        return [info for info in found if info is not None]

    def remove(self, session_id: str) -> None:
        """Removes a session for good, if it rests here.

        Raises:
            StoreError: If that cannot be done, or another process has it open.
        """
        folder = self.folder(session_id)
        if folder is None or not folder.is_dir():
            return
        with locked(folder):
            n_bytes = _bytes(folder.glob(PATTERN))
            try:
                # Away from its id in one step: of half a session the owner may be gone, and it would be anybody's.
                removed = Path(mkdtemp(prefix=_REMOVED, dir=folder.parent))
                folder.rename(removed / session_id)
                shutil.rmtree(removed)
            except OSError as error:
                raise StoreError(f"{folder} cannot be removed ({error.strerror}); remove it by hand.") from error
            finally:
                left = [*folder.glob(PATTERN), *folder.parent.glob(f"{_REMOVED}*/{session_id}/{PATTERN}")]
                self.quota.give_back(n_bytes - _bytes(left))


def _bytes(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _check_root(root: Path) -> None:
    """Raises now, and not when the first session is opened, if sessions cannot be kept here."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise StoreError(f"{root} cannot hold sessions ({error.strerror or error}); choose another --home.") from error


def _at_rest(folder: Path) -> SessionInfo | None:
    """Returns what is known of a session on disk; None if it is being removed, or damaged: opening it says so."""
    try:
        used_unix_s = max((path.stat().st_mtime for path in folder.iterdir()), default=folder.stat().st_mtime)
        return SessionInfo(folder.name, Ownership.load(folder).owner, is_open=False, used_unix_s=used_unix_s)
    except (OSError, StoreError) as error:
        logger.warning("session %s is not listed: %s", folder.name, error)
        return None
