"""The posteriors over named attributes that pocket's eye reports, and that its decoder gets.

A visual token is a linear map of one such posterior vector. Training starts the map from the decoder's embeddings of
the attributes' names, so that seeing "red" and reading "red" begin alike.
"""

from __future__ import annotations

from streamvlm.models.families.pocket.words import vocabulary
from streamvlm.readable import whole_seconds
from streamvlm.world.events import BADGES, COLOURS, SCENES, SHAPES, ZONES

NOTHING = "nothing"
UNBADGED = "unbadged"
REAL = "real"
"""The scene of any picture that is not of the synthetic world."""

GROUPS: dict[str, tuple[str, ...]] = {
    "zone": ZONES,
    "colour": (*COLOURS, NOTHING),
    "shape": (*SHAPES, NOTHING),
    "badge": (*BADGES, UNBADGED, NOTHING),
    "scene": (*SCENES, REAL),
    "word": vocabulary(),
    "hour": tuple(f"{n}:" for n in range(24)),
    "minute": tuple(f"{n:02}:" for n in range(60)),
    "second": tuple(f"{n:02}" for n in range(60)),
}
"""Attribute groups in the order in which they lie in a posterior vector.

The last three are not seen but known: every visual token carries its frame's time, as the text before it does, so
that what was seen and when are found in one place.
"""


def _spans() -> dict[str, slice]:
    spans, start = {}, 0
    for group, names in GROUPS.items():
        spans[group] = slice(start, start + len(names))
        start += len(names)
    return spans


SPAN = _spans()
N_ATTRIBUTES = SPAN["second"].stop
ATTRIBUTE_NAMES = tuple(name for names in GROUPS.values() for name in names)


def clock_columns(time_s: float) -> tuple[int, int, int]:
    """Returns the columns of the hour, minute and second of a stream time."""
    seconds = whole_seconds(time_s)
    return (
        SPAN["hour"].start + seconds // 3600 % 24,
        SPAN["minute"].start + seconds // 60 % 60,
        SPAN["second"].start + seconds % 60,
    )


N_ZONES = len(ZONES)
N_CLEAR_TOKENS = 1 + N_ZONES
"""One token for the whole picture, one a zone."""
N_FUZZY_TOKENS = 1 + 4
"""One token for the whole picture, one a quarter."""
