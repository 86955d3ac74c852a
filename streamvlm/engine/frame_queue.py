"""Frames of one live stream that wait to be watched: the newest few, and those that must not be dropped."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamvlm.frame import Frame

MOST_BYTES = 128 << 20
"""Of pixels: more than 16 frames of full HD."""


@dataclass(frozen=True, slots=True, eq=False)
class WaitingFrame:
    """A frame, when it was offered (``time.monotonic``), and whether it must not be dropped."""

    frame: Frame
    offered_at_s: float
    is_kept: bool = False


class FrameQueue:
    """A bounded queue in which the latest wins: when it is full, the oldest frame is dropped and counted.

    What is to be kept, or was promised to a question, is not dropped. Who offers the former waits for room first;
    promises are as bounded as questions are.

    Args:
        capacity: Most frames that wait and may be dropped.
        newest_s: Stream time at which an earlier queue of the stream was left, if there was one.
        most_bytes: Of pixels; where so many wait, of frames that may be dropped none but the newest waits besides.

    Attributes:
        newest_s: Stream time of the newest frame ever offered; None before the first.
        n_offered: Frames offered so far.
        n_dropped: Of these, dropped so far.
    """

    def __init__(self, capacity: int, newest_s: float | None, most_bytes: int = MOST_BYTES) -> None:
        self.newest_s = newest_s
        self.n_offered = self.n_dropped = 0
        self._capacity, self._most_bytes, self._n_bytes = capacity, most_bytes, 0
        self._promised_s = -math.inf
        self._frames: deque[WaitingFrame] = deque()
        self._waiting_for_room: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def has_room(self) -> bool:
        """Whether one more can wait and none will be dropped for it, even if all promises were taken back."""
        return len(self) < self._capacity and self._n_bytes < self._most_bytes

    @property
    def is_full(self) -> bool:
        """Whether one more would push the oldest of those that may be dropped out."""
        droppable = self._droppable()
        return len(droppable) >= self._capacity or (bool(droppable) and self._n_bytes >= self._most_bytes)

    def when_room(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` once when there is room, which may be now; it must return at once."""
        self._waiting_for_room.append(tell)
        self._tell_of_room()

    def offer(self, frame: Frame, now_s: float, *, keep: bool = False) -> None:
        """Adds a frame later than all before it; with ``keep`` it is not dropped for newer ones."""
        self._frames.append(WaitingFrame(frame, now_s, keep))
        self._n_bytes += frame.picture.nbytes
        self._trim()
        self.n_offered += 1
        self.newest_s = frame.time_s

    def promise(self, until_s: float) -> None:
        """Drops no frame up to this stream time any more."""
        self._promised_s = max(self._promised_s, until_s)

    def keep_promises(self, until_s: float) -> None:
        """Promises frames later than this no more; of those that are now too many, the oldest are dropped."""
        self._promised_s = min(self._promised_s, until_s)
        self._trim()

    def holds(self, until_s: float) -> bool:
        """Whether a frame up to this stream time waits."""
        return bool(self._frames) and self._frames[0].frame.time_s <= until_s

    def take(self, most: int, until_s: float = math.inf, within_s: float = math.inf) -> list[WaitingFrame]:
        """Takes out the oldest frames.

        Args:
            most: Of them, at least 1.
            until_s: None later than this.
            within_s: None further than this from the first; the first is taken whatever it is.
        """
        taken: list[WaitingFrame] = []
        while len(taken) < most and self._frames:
            time_s = self._frames[0].frame.time_s
            if time_s > until_s or (taken and time_s - taken[0].frame.time_s > within_s):
                break
            taken.append(self._frames.popleft())
            self._n_bytes -= taken[-1].frame.picture.nbytes
        self._tell_of_room()
        return taken

    def clear(self) -> None:
        """Drops all that waits."""
        self.n_dropped += len(self)
        self._n_bytes = 0
        self._frames.clear()
        self._tell_of_room()

    def _droppable(self) -> list[WaitingFrame]:
        return [one for one in self._frames if not (one.is_kept or one.frame.time_s <= self._promised_s)]

    def _trim(self) -> None:
        """Drops what is too much, the oldest first, and never the newest."""
        droppable = self._droppable()
        while len(droppable) > self._capacity or (len(droppable) > 1 and self._is_too_much()):
            oldest = droppable.pop(0)
            self._frames.remove(oldest)
            self._n_bytes -= oldest.frame.picture.nbytes
            self.n_dropped += 1

    def _is_too_much(self) -> bool:
        return self._n_bytes - self._frames[-1].frame.picture.nbytes >= self._most_bytes

    def _tell_of_room(self) -> None:
        if self.has_room:
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for tell in waiting:
                tell()
