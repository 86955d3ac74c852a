"""Receives on a thread what a sender sends at its own pace, and notes when each byte came, however late it is read."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from contextlib import closing

from streamvlm.errors import StreamVlmError
from streamvlm.ingest.clocks import LEAST_STEP_S
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.senders import Pieces

MAX_WAITING_BYTES = 64 << 20
"""Most bytes that came and were not read yet; then the sender has to wait."""

MAX_BEHIND_BYTES = 16 << 20
"""For how many bytes behind the reading arrival times are kept: FFmpeg reads 5 MB ahead, and a picture has a size."""


class Receiver(IncomingBytes):
    """The bytes of a sender, and when each of them came.

    Args:
        name: Of the source, for messages.
        pieces: What it sends, as it comes; closed on the thread.
        timeout_s: Longest wait for the sender.
        wake: Ends the wait of the thread for the sender.
        now: The clock of arrival times, in seconds.
    """

    def __init__(
        self,
        name: str,
        pieces: Pieces,
        *,
        timeout_s: float,
        wake: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name, timeout_s=timeout_s)
        self._pieces, self._wake = pieces, wake
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._n_waiting = self._n_came = 0
        self._now, self._first_s = now, now()
        self._places: list[int] = []
        self._times_s: list[float] = []
        self._failure: StreamVlmError | None = None
        self._is_closed = self._has_ended = False
        threading.Thread(target=self._take_in, name=f"receiver {name}", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the sender has ended without breaking off; not all bytes may have been read yet."""
        return self._has_ended and self._failure is None

    def came_s(self, place: int) -> float:
        """Returns when a byte that was read came, in seconds since the receiver was made."""
        with self._changed:
            return self._times_s[max(0, bisect_right(self._places, place) - 1)] - self._first_s

    def close(self) -> None:
        """Stops receiving."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._wake()
        super().close()

    def _receive(self) -> bytes:
        with self._changed:
            is_there = self._changed.wait_for(
                lambda: self._waiting or self._has_ended or self._is_closed, self._until_s - time.monotonic()
            )
            if not is_there:
                raise self._stalled()
            if not self._waiting:
                if self._failure is not None:
                    raise self._failure
                return b""
            piece = self._waiting.popleft()
            self._n_waiting -= len(piece)
            self._changed.notify_all()
            return piece

    def _take_in(self) -> None:
        failure = None
        try:
            with closing(self._pieces):
                for piece in self._pieces:
                    if not self._append(piece):
                        break
        except StreamVlmError as error:
            failure = error
        with self._changed:
            self._failure, self._has_ended = failure, True
            self._changed.notify_all()

    def _append(self, piece: bytes) -> bool:
        """Appends a piece to the waiting ones as soon as there is room; returns whether to go on."""
        now_s = self._now()
        with self._changed:
            self._changed.wait_for(lambda: self._n_waiting < MAX_WAITING_BYTES or self._is_closed)
            self._note(now_s)
            self._n_came += len(piece)
            self._n_waiting += len(piece)
            self._waiting.append(piece)
            self._changed.notify_all()
            return not self._is_closed

    def _note(self, now_s: float) -> None:
        """Notes when the next byte came, and drops times that are too far behind the reading."""
        if not self._times_s or now_s - self._times_s[-1] >= LEAST_STEP_S:
            self._places.append(self._n_came)
            self._times_s.append(now_s)
        n_old = bisect_right(self._places, self.place - MAX_BEHIND_BYTES) - 1
        if n_old > len(self._places) // 2:
            del self._places[:n_old], self._times_s[:n_old]
