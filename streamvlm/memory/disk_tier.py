"""What a memory wants of the disk: a store that another thread writes, so that the stream does not wait for it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from streamvlm.memory.disk.store import DiskStore, Put


class Settled(NamedTuple):
    """What the disk has done lately: ids of blocks that it now holds, and of those that it does not or no longer."""

    stored: set[int]
    gone: set[int]


class DiskTier(Protocol):
    """A disk store that is written behind the stream's back."""

    @property
    def store(self) -> DiskStore:
        """The store, which may be read at any time."""

    def submit(self, put: Put) -> None:
        """Takes a block to be written; its tensors stay as they are until it is settled."""

    def extend(self, block_id: int, end_s: float) -> None:
        """Lets a block that was submitted stand for the time up to ``end_s`` as well."""

    def settle(self) -> Settled:
        """Returns what has happened since the last call."""

    def drain(self) -> None:
        """Returns when everything submitted is settled."""
