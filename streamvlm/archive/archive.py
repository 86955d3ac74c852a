"""A stream's memory on disk: one folder, one writer, reopened where it was left.

session.json      what made it: format version, model, layout, codec, budget
lock              held by the process that has it open
catalog.db        which slot holds which block
seg-000001.kv …   blocks
diary.db          dialogue, gate decisions, thumbnails, standing questions, the stream's clock
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from streamvlm.archive.diary import Diary
from streamvlm.archive.write_behind import WriteBehind
from streamvlm.errors import StoreError, UsageError
from streamvlm.memory.disk.codec import Codec
from streamvlm.memory.disk.quota import DiskQuota
from streamvlm.memory.disk.segment import PATTERN
from streamvlm.memory.disk.store import DiskStore
from streamvlm.memory.disk.system_calls import SystemCalls
from streamvlm.models.base import VideoLanguageModel
from streamvlm.readable import size

FORMAT_VERSION = 2
NAME, LOCK = "session.json", "lock"
LEAST_BUDGET_BYTES = 16 << 20
MOST_FLUSH_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """How a memory is kept on disk.

    Attributes:
        codec: How blocks are encoded.
        budget_bytes: Most bytes of segment files.
        flush_every_s: Most seconds of the stream that a crash may lose.
    """

    codec: Codec = Codec.RAW
    budget_bytes: int = 4 << 30
    flush_every_s: float = 2.0

    def __post_init__(self) -> None:
        """Refuses what no archive can keep to.

        Raises:
            UsageError: If the flush interval is not positive or above an hour, or the budget holds next to nothing.
        """
        if not 0 < self.flush_every_s <= MOST_FLUSH_EVERY_S:
            raise UsageError(
                f"The flush interval is {self.flush_every_s:g} s; give a number above 0 and at most "
                f"{MOST_FLUSH_EVERY_S:g}."
            )
        if self.budget_bytes < LEAST_BUDGET_BYTES:
            raise UsageError(f"The disk budget is {size(self.budget_bytes)}; give at least {size(LEAST_BUDGET_BYTES)}.")


@dataclass(frozen=True, slots=True)
class ArchiveCard:
    """``session.json``: what a reader must know before it opens anything else."""

    format_version: int
    model: str
    fingerprint: str
    layout: str
    created_unix_s: float
    config: ArchiveConfig


class Archive:
    """An open folder: its store, its diary, and the thread that writes both.

    Args:
        folder: Made if it is not there.
        model: Whose blocks these are.
        config: Codec, budget and flush interval; by default those that the folder was opened with last.
        on_event: Gets a sentence about what should not go unnoticed, from any thread.
        quota: Disk that this and other archives may take together; by default as much as there is.
        io: How files are read and written.

    Raises:
        StoreError: If the folder is in use, damaged, cannot be written, or was made by another model or version.
    """

    def __init__(
        self,
        folder: Path,
        model: VideoLanguageModel,
        config: ArchiveConfig | None = None,
        *,
        on_event: Callable[[str], None],
        quota: DiskQuota | None = None,
        io: SystemCalls | None = None,
    ) -> None:
        self.folder = folder
        with ExitStack() as opened:
            opened.callback(os.close, _lock(folder))
            try:
                self.card = _card(folder, model, config)
                config = self.card.config
                self.diary = Diary(folder)
                opened.callback(self.diary.close)
                self.store = DiskStore(
                    folder, model.layout, model.fingerprint,
                    codec=config.codec, budget_bytes=config.budget_bytes, quota=quota, io=io,
                    on_event=on_event,
                )  # fmt: skip
                opened.callback(self.store.close)
            except (OSError, sqlite3.Error) as error:
                cause = getattr(error, "strerror", None) or error
                raise StoreError(f"{folder} cannot be used ({cause}); choose another --memory.") from error
            self.writer = WriteBehind(self.store, self.diary, flush_every_s=config.flush_every_s, on_event=on_event)
            opened.callback(self.writer.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Commits everything and lets the folder go."""
        self._opened.close()


def read_card(folder: Path) -> ArchiveCard:
    """Reads ``session.json``.

    Raises:
        StoreError: If there is none, or not of this format version.
    """
    try:
        fields: dict[str, Any] = json.loads((folder / NAME).read_text("utf-8"))
        version = int(fields["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} holds no memory of a stream ({NAME}: {error}); check the path.") from error
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{folder} has format version {version} and this is version {FORMAT_VERSION}; "
            "use the release of StreamVLM that wrote it."
        )
    try:
        config = ArchiveConfig(**{**fields["config"], "codec": Codec(fields["config"]["codec"])})
        return ArchiveCard(**{**fields, "config": config})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / NAME} is damaged ({error}); put back what it was.") from error


def kept_config(folder: Path, changes: Mapping[str, Any]) -> ArchiveConfig:
    """Returns the settings a folder was last opened with, or the defaults if there is none yet, with some changed.

    Raises:
        StoreError: If its card is damaged.
        UsageError: If the changes make no sense.
    """
    before = read_card(folder).config if (folder / NAME).exists() else ArchiveConfig()
    return replace(before, **changes)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder's lock, so that no other process writes it meanwhile.

    Raises:
        StoreError: If another process has it open.
    """
    fd = _lock(folder)
    try:
        yield
    finally:
        os.close(fd)


def _lock(folder: Path) -> int:
    with ExitStack() as opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        except BlockingIOError as error:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise StoreError(
                f"{folder} is in use by process {owner or 'unknown'}; end that first, or choose another --memory."
            ) from error
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be used ({error.strerror or error}); choose another --memory."
            ) from error
        opened.pop_all()
    return fd


def _card(folder: Path, model: VideoLanguageModel, config: ArchiveConfig | None) -> ArchiveCard:
    """Returns the folder's card, which is made if there is none, and changed if the settings differ."""
    if (folder / NAME).exists():
        card = read_card(folder)
        if card.fingerprint != model.fingerprint or card.layout != repr(model.layout):
            raise StoreError(
                f"{folder} remembers a stream seen by {card.model} ({card.fingerprint}), and this is {model.name} "
                f"({model.fingerprint}); use that model, or another --memory."
            )
        changed = replace(card, config=config or card.config)
        if changed == card:
            return card
    elif any(folder.glob(PATTERN)):
        raise StoreError(f"{folder} has segments but no {NAME}; put it back, or choose another --memory.")
    else:
        changed = ArchiveCard(
            FORMAT_VERSION, model.name, model.fingerprint, repr(model.layout), time.time(), config or ArchiveConfig()
        )
    draft = folder / f"{NAME}.draft"
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(changed), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # or a power cut may leave the name without the bytes
    draft.replace(folder / NAME)
    return changed
