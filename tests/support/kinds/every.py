"""All kinds there are."""

from __future__ import annotations

from kinds.animations import ANIMATIONS
from kinds.broken import CUT, NO_VIDEO
from kinds.cameras import CAMERAS
from kinds.kind import Kind
from kinds.looks import COLOURS, SHAPES
from kinds.names import NAMES
from kinds.playlists import PLAYLISTS
from kinds.stills import STILLS
from kinds.times import TIMES
from kinds.urls import URLS
from kinds.videos import CONTAINERS, STREAMS
from kinds.web import SENT

GROUPS: dict[str, list[Kind]] = {
    "Containers and codecs": CONTAINERS,
    "Shapes": SHAPES,
    "Colours": COLOURS,
    "More than one stream": STREAMS,
    "Clocks": TIMES,
    "Cut short and damaged": CUT,
    "Names": NAMES,
    "Pictures": STILLS,
    "Pictures that move": ANIMATIONS,
    "Web servers": SENT,
    "Cameras": CAMERAS,
    "HLS": PLAYLISTS,
    "Written into a request": URLS,
    "No video": NO_VIDEO,
}
KINDS = {kind.name: kind for group in GROUPS.values() for kind in group}
