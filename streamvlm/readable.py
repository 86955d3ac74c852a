"""Times and sizes as people read them."""

from __future__ import annotations

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")

TICK_S = 1e-3
"""How early a rounded time may be: containers count milliseconds, or ticks of 90 kHz, so that 4 s may be 3.99999 s."""


def whole_seconds(time_s: float) -> int:
    """Returns the seconds of a stream time that have passed; one that lacks at most `TICK_S` has."""
    return int(time_s + TICK_S)


def clock(time_s: float) -> str:
    """Writes a time as people and pocket read it: ``1:02:03`` for 3723 seconds."""
    seconds = whole_seconds(time_s)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def size(n_bytes: int) -> str:
    """Writes a size as options take it: ``48MiB`` for 50331648 bytes."""
    power = min(max(n_bytes.bit_length() - 1, 0) // 10, len(_SIZES) - 1)
    return f"{round(n_bytes / 1024**power, 1):g}{_SIZES[power]}"
