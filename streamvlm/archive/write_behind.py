"""Writes blocks to disk behind the stream's back, on a thread of its own, never more than a set time behind it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streamvlm.archive.compute_threads import compute_alone
from streamvlm.archive.diary import Diary, Record
from streamvlm.memory.disk.store import DiskStore, Put
from streamvlm.memory.disk_tier import Settled

QUEUE_BYTES = 256 << 20
"""Most payload bytes that wait to be written; their host slots cannot be evicted meanwhile."""


@dataclass
class _Batch:
    """Blocks, ends and records that are committed together."""

    puts: list[Put] = field(default_factory=list)
    ends_s: dict[int, float] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    extended_from_s: float = math.inf
    since: float | None = None

    def __bool__(self) -> bool:
        return bool(self.puts or self.ends_s or self.records)

    @property
    def begin_s(self) -> float:
        """Stream time of the oldest thing in it."""
        return min([self.extended_from_s, *(put.block.start_s for put in self.puts[:1])])

    @property
    def end_s(self) -> float:
        """Stream time of the newest thing in it."""
        return max([*self.ends_s.values(), *(put.block.start_s for put in self.puts[-1:])], default=-math.inf)


class WriteBehind:
    """The disk tier of a memory: queues what comes, commits it in batches.

    After a crash at any moment, at most ``flush_every_s`` of stream time is missing: a block waits at the door when
    the oldest one not yet committed is that far behind it. When the disk fails for good, the queue is let go, and the
    stream goes on without.

    Args:
        store: Where blocks go.
        diary: Where records go that are no blocks.
        flush_every_s: Most seconds, of the stream and of the clock, between a block and its commit.
        on_event: Gets a sentence about what should not go unnoticed; called on the thread.

    Attributes:
        store: Where blocks go; may be read at any time.
        reach_s: Stream time up to which blocks are taken without a wait, as of now; may be read without the lock.
    """

    def __init__(
        self, store: DiskStore, diary: Diary, *, flush_every_s: float, on_event: Callable[[str], None]
    ) -> None:
        self.store, self._diary = store, diary
        self._flush_every_s, self._tell = flush_every_s, on_event
        self.reach_s = math.inf
        self._changed = threading.Condition()
        self._queued, self._writing = _Batch(), _Batch()
        self._settled = Settled(set(), set())
        self._hurry = self._closing = self._failed = False
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def submit(self, put: Put) -> None:
        """Queues a block; waits while what is not committed reaches too far back or is too much."""
        with self._changed:
            self._wait_until(lambda: self._has_room_for(put))
            if self._failed:
                self._settled.gone.add(put.block.id)
                return
            self._queued.puts.append(put)
            self._wake()

    def extend(self, block_id: int, end_s: float) -> None:
        """Lets a block stand for longer."""
        with self._changed:
            self._wait_until(lambda: self._is_near(end_s))
            if not self._failed:
                self._queued.ends_s[block_id] = end_s
                self._queued.extended_from_s = min(self._queued.extended_from_s, end_s)
                self._wake()

    def note(self, record: Record) -> None:
        """Queues a record for the diary."""
        with self._changed:
            if not self._failed:
                self._queued.records.append(record)
                self._wake()

    def settle(self) -> Settled:
        """Returns the ids stored since the last call, and those that are not or no longer on disk."""
        with self._changed:
            settled, self._settled = self._settled, Settled(set(), set())
            return settled

    def hurry(self) -> None:
        """Commits what is queued at once, without waiting for more."""
        with self._changed:
            if self._queued:
                self._queued.since = -math.inf
                self._changed.notify_all()

    def drain(self) -> None:
        """Returns when all that has come is committed."""
        with self._changed:
            self._wait_until(lambda: not (self._queued or self._writing))

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # --- under the lock ---

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Waits until a condition holds, and hurries commits meanwhile."""
        if not (self._failed or is_so()):
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failed or is_so())
            self._hurry = False

    def _wake(self) -> None:
        """Lets the thread see what has been queued."""
        if self._queued.since is None:
            self._queued.since = time.monotonic()
        self._note_change()

    def _note_change(self) -> None:
        """Lets all others see what is queued and written now."""
        self.reach_s = self._oldest_s() + self._flush_every_s
        self._changed.notify_all()

    def _has_room_for(self, put: Put) -> bool:
        waiting = [*self._writing.puts, *self._queued.puts]
        n_bytes = sum(p.payload.nbytes for p in waiting) + put.payload.nbytes
        return self._is_near(put.block.start_s) and (not waiting or n_bytes <= QUEUE_BYTES)

    def _is_near(self, time_s: float) -> bool:
        """Whether the oldest thing not committed is no further behind than promised."""
        return time_s - self._oldest_s() <= self._flush_every_s

    def _oldest_s(self) -> float:
        """Stream time of the oldest thing not committed."""
        return min(self._writing.begin_s, self._queued.begin_s)

    def _is_due(self) -> bool:
        if not self._queued:
            return False
        span_s = self._queued.end_s - self._queued.begin_s
        # Half the interval goes by before, the other half is left for the writing.
        return self._hurry or self._closing or self._left_s() <= 0 or span_s >= self._flush_every_s / 2

    def _left_s(self) -> float:
        return self._flush_every_s / 2 - (time.monotonic() - (self._queued.since or 0.0))

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
                if self._closing and not self._queued:
                    return False
                self._changed.wait(max(self._left_s(), 0.001) if self._queued else None)
            batch = self._writing = self._queued
            self._queued = _Batch()
        stored = self.store.commit(batch.puts, batch.ends_s)
        self._diary.add(batch.records)
        with self._changed:
            self._writing = _Batch()
            self._settled.stored.update(stored)
            self._settled.gone.update({p.block.id for p in batch.puts} - stored, self.store.dropped())
            self._note_change()
        return True

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self._failed = True
            lost = [*self._writing.puts, *self._queued.puts]
            self._settled.gone.update({put.block.id for put in lost}, self.store.dropped())
            self._queued, self._writing = _Batch(), _Batch()
            self._note_change()
        self._tell(
            f"{self.store.folder} can no longer be written ({error}): the memory goes on in RAM alone, and what is "
            "seen from now on will not survive this process."
        )
