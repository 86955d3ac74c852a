"""Times and sizes as people write them."""

from __future__ import annotations

import re

from streamvlm.errors import UsageError

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_time(text: str) -> float:
    """Returns the seconds of ``42``, ``42.5``, ``42s``, ``5m``, ``2h``, ``0:42`` or ``1:02:03``.

    Raises:
        UsageError: If the text has none of these forms.
    """
    if unit := re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text):
        return float(unit[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[unit[2]]
    if clock := re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)", text):
        return 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3])
    raise UsageError(f"{text!r} is not a time; write seconds (42), a clock (1:02:03) or a length (5m).")


def parse_bytes(text: str) -> int:
    """Returns the bytes of ``1000000``, ``256MB`` or ``1GiB``.

    Raises:
        UsageError: If the text has none of these forms.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.lower())
    if found is None:
        raise UsageError(f"{text!r} is not a size; write bytes, or a number with a unit such as 256MB or 1GiB.")
    return int(float(found[1]) * _UNITS[found[2] or ""])
