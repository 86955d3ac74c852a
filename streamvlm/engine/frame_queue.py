"""Frames of one live stream that wait to be watched: the newest few, and those that a question waits for."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from streamvlm.frame import Frame

MOST_BYTES = 128 << 20
"""Of pixels: more than 16 frames of full HD."""


@dataclass(frozen=True, slots=True)
class WaitingFrame:
    """A frame, and the clock (``time.monotonic``) at which it was offered."""

    frame: Frame
    offered_at_s: float


class FrameQueue:
    """A bounded queue in which the latest wins: where one too many comes, the oldest is dropped and counted.

    What was promised to a question is no longer dropped; promises are as bounded as questions are.

    Args:
        capacity: Most frames that wait without a promise.
        newest_s: Stream time at which an earlier queue of the stream was left, if there was one.
        most_bytes: Of pixels; where so many wait, promised ones too, nothing but the newest frame waits besides.

    Attributes:
        newest_s: Stream time of the newest frame ever offered; None before the first.
        n_offered: Frames offered so far.
        n_dropped: Of these, dropped so far.
    """

    def __init__(self, capacity: int, newest_s: float | None, most_bytes: int = MOST_BYTES) -> None:
        self.newest_s = newest_s
        self.n_offered = self.n_dropped = 0
        self._capacity, self._most_bytes, self._n_bytes = capacity, most_bytes, 0
        self._promised: deque[WaitingFrame] = deque()
        self._waiting: deque[WaitingFrame] = deque()

    def __len__(self) -> int:
        return len(self._promised) + len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether one more can wait and none will be dropped for it, even if all promises were taken back."""
        return len(self) < self._capacity and self._n_bytes < self._most_bytes

    @property
    def is_full(self) -> bool:
        """Whether one more would push the oldest out."""
        is_too_much = bool(self._waiting) and self._n_bytes >= self._most_bytes
        return len(self._waiting) >= self._capacity or is_too_much

    def offer(self, frame: Frame, now_s: float) -> None:
        """Adds a frame later than all before it."""
        self._waiting.append(WaitingFrame(frame, now_s))
        self._n_bytes += frame.picture.nbytes
        self._trim()
        self.n_offered += 1
        self.newest_s = frame.time_s

    def promise(self, until_s: float) -> None:
        """Drops no frame up to this stream time any more."""
        while self._waiting and self._waiting[0].frame.time_s <= until_s:
            self._promised.append(self._waiting.popleft())

    def keep_promises(self, until_s: float) -> None:
        """Promises frames later than this no more; of those that are now too many, the oldest are dropped."""
        while self._promised and self._promised[-1].frame.time_s > until_s:
            self._waiting.appendleft(self._promised.pop())
        self._trim()

    def holds(self, until_s: float) -> bool:
        """Whether a frame up to this stream time waits."""
        return any(part[0].frame.time_s <= until_s for part in (self._promised, self._waiting) if part)

    def take(self, most: int, until_s: float = math.inf, within_s: float = math.inf) -> list[WaitingFrame]:
        """Takes out the oldest frames.

        Args:
            most: Of them, at least 1.
            until_s: None later than this.
            within_s: None further than this from the first; the first is taken whatever it is.
        """
        taken: list[WaitingFrame] = []
        while len(taken) < most and (part := self._promised or self._waiting):
            time_s = part[0].frame.time_s
            if time_s > until_s or (taken and time_s - taken[0].frame.time_s > within_s):
                break
            taken.append(part.popleft())
            self._n_bytes -= taken[-1].frame.picture.nbytes
        return taken

    def clear(self) -> None:
        """Drops all that waits."""
        self.n_dropped += len(self)
        self._n_bytes = 0
        self._promised.clear()
        self._waiting.clear()

    def _trim(self) -> None:
        """Drops what is too much, the oldest first, and never the newest."""
        while len(self._waiting) > self._capacity or (len(self._waiting) > 1 and self._is_too_much()):
            self._n_bytes -= self._waiting.popleft().frame.picture.nbytes
            self.n_dropped += 1

    def _is_too_much(self) -> bool:
        return self._n_bytes - self._waiting[-1].frame.picture.nbytes >= self._most_bytes
