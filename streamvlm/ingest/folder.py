"""A folder of pictures, read as a video in natural order (`2.png` before `10.png`), one picture a slot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
from av.error import FFmpegError
from av.video.frame import VideoFrame

from streamvlm.errors import SourceError
from streamvlm.ingest.picture import to_picture
from streamvlm.ingest.reader import Decoded

_KINDS = ("avif", "bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp")


class FolderReader:
    """Decodes the pictures of a folder; the slot of one that cannot be read stays empty.

    A folder that may not be listed, or holds no pictures, is a SourceError.

    Attributes:
        is_live: False.
        duration_s: Seconds of stream time the pictures span, 1 / fps each.
        n_corrupt_packets: Unreadable pictures skipped so far.
    """

    is_live = False

    def __init__(self, folder: Path, *, fps: float) -> None:
        try:
            files = sorted(folder.iterdir(), key=natural_key)
        except PermissionError:
            raise SourceError(f"{folder} may not be read; give this user the right to it.") from None
        self._pictures = [f for f in files if f.suffix[1:].lower() in _KINDS and not f.name.startswith(".")]
        if not self._pictures:
            raise SourceError(f"{folder} holds no pictures; put some in ({', '.join(_KINDS)}).")
        self._fps = fps
        self.duration_s: float | None = len(self._pictures) / fps
        self.n_corrupt_packets = 0

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yield (stream time in seconds, decoded picture) for each readable picture."""
        for position, path in enumerate(self._pictures):
            try:
                frame = _decode(path)
            except (FFmpegError, LookupError, StopIteration):
                self.n_corrupt_packets += 1
            else:
                yield position / self._fps, partial(to_picture, frame)

    def close(self) -> None:
        """Do nothing: each picture's file is closed as soon as it is decoded."""


def natural_key(path: Path) -> list[str | int]:
    """Return a sort key under which the numbers in file names count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name.lower())]


def _decode(path: Path) -> VideoFrame:
    options = {"protocol_whitelist": "file"}
    with av.open(f"file:{path}", "r", options=options, metadata_errors="replace") as picture:
        return next(picture.decode(video=0))
