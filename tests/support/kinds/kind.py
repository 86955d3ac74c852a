"""What a kind of input is, and what has to come of it at each door."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from kinds.clip import Clip

NOW = "what do you see now?"
WHEN = "when did the red circle appear?"
WHERE = "where is the blue star now?"

VIDEO = ("file", "video_url", "source")
VIDEO_BY_HTTP = (*VIDEO, "http")
STILL = ("file", "folder", "http", "image_url", "realtime")
WEB = ("http", "source")
INLINE = ("image_url", "realtime")


@dataclass(frozen=True)
class Right:
    """It is answered.

    Attributes:
        answers: A question, and the whole of its answer as a regular expression.
        ends_s: Between which stream times the newest picture lies.
        warns: What is said besides, as a regular expression.
    """

    answers: Mapping[str, str]
    ends_s: tuple[float, float] = (0.0, 0.0)
    warns: str = ""


@dataclass(frozen=True)
class Refused:
    """It is refused in one sentence.

    Attributes:
        says: What the sentence holds, as a regular expression.
        code: What the error is called where errors have codes, as a regular expression.
    """

    says: str
    code: str = ".*"


Outcome = Right | Refused

_SLOTS = (0.0, 2.0)
"""A picture is alone, or in a folder the second of two."""

CLIP = Right({NOW: "a blue star", WHEN: "at 0:00:04"}, ends_s=(9.5, 12.0))
UPRIGHT = Right({NOW: "a blue star", WHERE: "in the top-right"}, ends_s=(9.5, 12.0))
STAR = Right({NOW: "a blue star"}, ends_s=_SLOTS)
HELD_UPRIGHT = Right({NOW: "a blue star", WHERE: "in the top-right"}, ends_s=_SLOTS)


def as_data_url(media_type: str, data: bytes) -> str:
    """Bytes as the URL that all clients write."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Kind:
    """A kind of input, as people have it.

    Attributes:
        name: Of its row.
        what: It is, in a line.
        file: What the file is called, or the folder where that ends with a slash.
        make: Writes it.
        outcome: What has to come of it.
        doors: Through which it can come.
        but: Doors at which something else has to come of it.
        serve: How a web server sends it; by default as any file. Where that is told, the web is where it lives.
        address: Its web address, given host and path.
        url: Its bytes as a data URL, given their media type.
        flags: Of the command line.
    """

    name: str
    what: str
    file: str
    make: Callable[[Path, Clip], None]
    outcome: Outcome
    doors: tuple[str, ...] = VIDEO
    but: Mapping[str, Outcome] = field(default_factory=dict)
    serve: Callable[[BaseHTTPRequestHandler, Path], None] | None = None
    address: str = "{}"
    url: Callable[[str, bytes], str] = as_data_url
    flags: tuple[str, ...] = ()

    def at(self, door: str) -> Outcome:
        """What has to come of it at a door."""
        return self.but.get(door, self.outcome)
