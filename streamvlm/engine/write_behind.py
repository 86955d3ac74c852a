"""Writes blocks to disk behind the stream's back, on a thread of its own, never more than a set time behind it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from streamvlm.engine.diary import Diary, Entry
from streamvlm.engine.threads import compute_alone
from streamvlm.memory.disk_store import DiskStore, Put
from streamvlm.memory.hierarchy import Settled

QUEUE_BYTES = 256 << 20
"""Most payload bytes that wait to be written; their host slots cannot be evicted meanwhile."""


class WriteBehind:
    """The disk tier of a memory: queues what comes, commits it in batches.

    After a crash at any moment, at most ``flush_every_s`` of stream time is missing: a block waits at the door when
    the oldest one not yet committed is that far behind it. When the disk fails for good, the queue is let go, and the
    stream goes on without.

    Args:
        store: Where blocks go.
        diary: Where entries go that are no blocks.
        flush_every_s: Most seconds, of the stream and of the clock, between a block and its commit.
        on_event: Told in a sentence of what should not go unnoticed; called on the thread.
    """

    def __init__(
        self, store: DiskStore, diary: Diary, *, flush_every_s: float, on_event: Callable[[str], None]
    ) -> None:
        self.store, self._diary = store, diary
        self._flush_every_s, self._tell = flush_every_s, on_event
        self._changed = threading.Condition()
        self._puts: list[Put] = []
        self._ends_s: dict[int, float] = {}
        self._entries: list[Entry] = []
        self._writing: list[Put] = []
        self._settled = Settled(set(), set())
        self._extended_from_s = math.inf  # stream time of the first of the ends that are queued
        self._since: float | None = None  # when the oldest of what is queued came
        self._hurry = self._closing = self._failed = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether the disk has been given up."""
        return self._failed

    @property
    def reach_s(self) -> float:
        """Stream time up to which blocks are taken without a wait."""
        with self._changed:
            return math.inf if self._failed else self._oldest_s() + self._flush_every_s

    def submit(self, put: Put) -> None:
        """Queues a block; waits while what is not committed reaches too far back or is too much."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._has_room_for(put))
            if self._failed:
                self._settled.gone.add(put.block.id)
                return
            self._puts.append(put)
            self._wake()

    def extend(self, block_id: int, end_s: float) -> None:
        """Lets a block stand for longer."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._is_near(end_s))
            if not self._failed:
                self._ends_s[block_id] = end_s
                self._extended_from_s = min(self._extended_from_s, end_s)
                self._wake()

    def note(self, entry: Entry) -> None:
        """Queues an entry of the diary."""
        with self._changed:
            if not self._failed:
                self._entries.append(entry)
                self._wake()

    def settle(self) -> Settled:
        """Ids stored, and ids that are not or no longer on disk, since this was last asked."""
        with self._changed:
            settled, self._settled = self._settled, Settled(set(), set())
            return settled

    def drain(self) -> None:
        """Returns when nothing is queued any more."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failed or not (self._queued() or self._writing))
            self._hurry = False

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # --- under the lock ---

    def _queued(self) -> bool:
        return bool(self._puts or self._ends_s or self._entries)

    def _wake(self) -> None:
        if self._since is None:
            self._since = time.monotonic()
        self._changed.notify_all()

    def _has_room_for(self, put: Put) -> bool:
        waiting = [*self._writing, *self._puts]
        n_bytes = sum(p.payload.nbytes for p in waiting) + put.payload.nbytes
        return not waiting or (n_bytes <= QUEUE_BYTES and self._is_near(put.block.start_s))

    def _is_near(self, time_s: float) -> bool:
        """Whether the oldest thing not committed is no further behind than promised."""
        return time_s - self._oldest_s() <= self._flush_every_s

    def _oldest_s(self) -> float:
        """Stream time of the oldest thing not committed."""
        return min(self._extended_from_s, *(p.block.start_s for p in [*self._writing[:1], *self._puts[:1]]), math.inf)

    def _is_due(self) -> bool:
        if not self._queued():
            return False
        times_s = [p.block.start_s for p in (*self._puts[:1], *self._puts[-1:])] + [*self._ends_s.values()]
        span_s = max(times_s, default=0.0) - min([*times_s, self._extended_from_s])
        # Half the interval goes by before, the other half is left for the writing.
        return self._hurry or self._closing or self._left_s() <= 0 or span_s >= self._flush_every_s / 2

    def _left_s(self) -> float:
        return self._flush_every_s / 2 - (time.monotonic() - (self._since or 0.0))

    # --- the thread ---

    def _run(self) -> None:
        try:
            compute_alone()
            while self._write_what_is_due():
                pass
        except Exception as error:  # of any kind: nobody may wait for ever for a thread that has ended
            self._give_up(error)

    def _write_what_is_due(self) -> bool:
        """Waits for a batch and commits it; False when none will come any more."""
        with self._changed:
            while not self._is_due():
                if self._closing and not self._queued():
                    return False
                self._changed.wait(max(self._left_s(), 0.001) if self._queued() else None)
            puts, ends_s, entries = self._puts, self._ends_s, self._entries
            self._puts, self._ends_s, self._entries, self._since = [], {}, [], None
            self._extended_from_s = math.inf
            self._writing = puts
        stored = self.store.commit(puts, ends_s)
        self._diary.add(entries)
        with self._changed:
            self._writing = []
            self._settled.stored.update(stored)
            self._settled.gone.update({p.block.id for p in puts} - stored, self.store.dropped())
            self._changed.notify_all()
        return True

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self._failed = True
            self._settled.gone.update({p.block.id for p in [*self._writing, *self._puts]}, self.store.dropped())
            self._puts, self._ends_s, self._entries, self._writing = [], {}, [], []
            self._changed.notify_all()
        self._tell(
            f"{self.store.folder} can no longer be written ({error}): the memory goes on in RAM alone, and what is "
            "seen from now on will not survive this process"
        )
