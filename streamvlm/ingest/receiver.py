"""What a sender sends at its own pace, taken in on a thread, so that when it came is known however late it is read."""

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
"""Of what came and was not read yet; then the sender has to wait."""

MAX_BEHIND_BYTES = 16 << 20
"""How far behind the reading it is still asked when a byte came: FFmpeg looks 5 MB ahead, and a picture has a size."""


class Receiver(IncomingBytes):
    """The bytes of a sender, and when each of them came.

    Args:
        name: Of the source, for messages.
        pieces: What it sends, as it comes; closed on the thread.
        timeout_s: How long it may keep us waiting.
        wake: Has the sender send no more, so that who waits for it ends.
        now: Tells the time at which something comes, in seconds.
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
        threading.Thread(target=self._take_in, name=f"intake {name}", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether all has come that will ever come, and nothing broke off; it may not all be read."""
        return self._has_ended and self._failure is None

    def came_s(self, place: int) -> float:
        """When the byte at a place came, in seconds since the sender was listened to; of a byte that was read."""
        with self._changed:
            return self._times_s[max(0, bisect_right(self._places, place) - 1)] - self._first_s

    def close(self) -> None:
        """Takes in no more."""
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
                    if not self._keep(piece):
                        break
        except StreamVlmError as error:
            failure = error
        with self._changed:
            self._failure, self._has_ended = failure, True
            self._changed.notify_all()

    def _keep(self, piece: bytes) -> bool:
        """Puts a piece to what waits, as soon as there is room; says whether more is wanted."""
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
        """Keeps in mind when the next byte came, and forgets what nobody asks for any more."""
        if not self._times_s or now_s - self._times_s[-1] >= LEAST_STEP_S:
            self._places.append(self._n_came)
            self._times_s.append(now_s)
        n_old = bisect_right(self._places, self.place - MAX_BEHIND_BYTES) - 1
        if n_old > len(self._places) // 2:
            del self._places[:n_old], self._times_s[:n_old]
