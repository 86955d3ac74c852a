"""The limits of one API key, and the meter that enforces them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from streamvlm.readable import size
from streamvlm_server.errors import RateLimitError

_BURST_S = 2.0
_UNLIMITED = math.inf
_ROUNDING = 1e-3
"""Share of the needed units that may be missing, so that a client that has waited as told is not refused."""


class Limits(BaseModel):
    """The limits of one key; a limit that is left out is unlimited.

    Attributes:
        sessions: Sessions in use at once: by a WebSocket, or by a request that brings its own video.
        frames_per_s: Frames a second, over all its sessions.
        bytes_per_s: Bytes of pictures and video a second, over all its sessions.
        questions_per_min: Questions a minute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int | None = Field(default=None, ge=0)
    frames_per_s: float = Field(default=_UNLIMITED, gt=0)
    bytes_per_s: float = Field(default=_UNLIMITED, gt=0)
    questions_per_min: float = Field(default=_UNLIMITED, gt=0)


class TokenBucket:
    """Limits a flow to an average rate.

    A demand larger than the bucket passes when the bucket is full, and the rest is owed: so a picture passes whole or
    not at all, and the rate holds over any longer time.

    Args:
        rate: Units a second; may be infinite.
        burst: Most units that a pause saves up.
        clock: Returns seconds, growing.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._at_s = burst, clock()

    def wait_s(self, units: float) -> float:
        """Returns the seconds until units may be taken; 0 if they may be taken now."""
        if self._rate == _UNLIMITED:
            return 0.0
        now_s = self._clock()
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        needed = min(units, self._burst)
        missing = needed - self._level
        return missing / self._rate if missing > _ROUNDING * needed else 0.0

    def take(self, units: float) -> None:
        """Takes units; what the bucket lacks is owed."""
        if self._rate != _UNLIMITED:
            self._level -= units


class Meter:
    """Counts what one key uses, and refuses what is beyond its limits; for one thread, the event loop's.

    Args:
        limits: Limits of the key.
        clock: Returns seconds, growing.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        per_s = limits.questions_per_min / 60
        self._questions = TokenBucket(per_s, max(1.0, per_s * _BURST_S), clock)
        self._frames = TokenBucket(limits.frames_per_s, max(1.0, limits.frames_per_s * _BURST_S), clock)
        self._bytes = TokenBucket(limits.bytes_per_s, limits.bytes_per_s * _BURST_S, clock)
        self._n_sessions = 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """Counts a session while it is in use.

        Raises:
            RateLimitError: If it is one too many.
        """
        self.check_sessions()
        self._n_sessions += 1
        try:
            yield
        finally:
            self._n_sessions -= 1

    def check_sessions(self) -> None:
        """Raises RateLimitError if another session would be one too many."""
        most = self.limits.sessions
        if most is not None and self._n_sessions >= most:
            raise RateLimitError(
                f"This key is allowed {most} sessions at once; end one, or try again later.", retry_after_s=1.0
            )

    def question(self) -> None:
        """Counts a question.

        Raises:
            RateLimitError: If it is one too many.
        """
        if wait_s := self._questions.wait_s(1):
            raise _too_much(f"{self.limits.questions_per_min:g} questions a minute", wait_s)
        self._questions.take(1)

    def frames(self, n_frames: int, n_bytes: int) -> None:
        """Counts frames and the bytes they came in.

        Raises:
            RateLimitError: If they are too many.
        """
        if wait_s := self._frames.wait_s(n_frames):
            raise _too_much(f"{self.limits.frames_per_s:g} frames a second", wait_s)
        if wait_s := self._bytes.wait_s(n_bytes):
            raise _too_much(f"{size(round(self.limits.bytes_per_s))} of media a second", wait_s)
        self._frames.take(n_frames)
        self._bytes.take(n_bytes)

    async def frames_in_time(self, n_frames: int, n_bytes: int) -> None:
        """Counts frames as soon as they are not too many."""
        while True:
            try:
                self.frames(n_frames, n_bytes)
            except RateLimitError as error:
                await asyncio.sleep(error.retry_after_s)
            else:
                return

    def owe_frames(self, n_frames: int) -> None:
        """Counts frames found in a file that was taken already; later frames wait for them."""
        self._frames.take(n_frames)


def _too_much(limit: str, wait_s: float) -> RateLimitError:
    return RateLimitError(
        f"This key is allowed {limit}; send less, or try again in {wait_s:.3g} s.", retry_after_s=wait_s
    )
