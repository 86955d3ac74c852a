"""A folder of pictures, read as a video in natural order (`2.png` before `10.png`), one picture a slot.

An animation in it is a short video in its place: it takes as many slots as it lasts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from streamvlm.errors import PictureError, SourceError
from streamvlm.ingest.reader import Decoded
from streamvlm.ingest.stills.kinds import HEAD_BYTES, READ, kind_of
from streamvlm.ingest.stills.still import StillReader

_PICTURE = re.compile(r".+\.(avif|bmp|gif|hei[cf]|jp2|jpe?g|jxl|p[bgp]m|png|tiff?|webp)", re.IGNORECASE)


class FolderReader:
    """Decodes the pictures of a folder; the slot of one that cannot be read stays empty.

    Raises SourceError if the folder may not be listed or holds no pictures.

    Attributes:
        is_live: False.
        duration_s: Seconds of stream time the pictures span, 1 / fps each, and longer for animations read so far.
        n_corrupt_packets: Unreadable pictures skipped so far.
        warning: None.
    """

    is_live = False
    warning: str | None = None

    def __init__(self, folder: Path, *, fps: float) -> None:
        try:
            files = sorted(folder.iterdir(), key=natural_key)
        except PermissionError:
            raise SourceError(f"{folder} may not be read; give this user the right to it.") from None
        self._folder, self._fps = folder, fps
        self._pictures = [file for file in files if _is_picture(file)]
        if not self._pictures:
            raise SourceError(f"{folder} holds no pictures; put some in ({READ}).")
        self.duration_s: float | None = len(self._pictures) / fps
        self.n_corrupt_packets = 0

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yields (stream time in seconds, decoded picture) for each readable picture.

        Raises:
            SourceError: If there is none.
        """
        slot, n_read, fault = 0, 0, ""
        for n_seen, path in enumerate(self._pictures, 1):
            try:
                reader = _open(path)
            except PictureError as error:
                self.n_corrupt_packets += 1
                fault = fault or str(error)
                slot += 1
                continue
            n_read += 1
            for time_s, decoded in reader:
                yield slot / self._fps + time_s, decoded
            self.n_corrupt_packets += reader.n_corrupt_packets
            slot += self._slots(reader)
            self.duration_s = (slot + len(self._pictures) - n_seen) / self._fps
        if not n_read:
            raise SourceError(f"{self._folder} holds no readable picture: {fault}")

    def close(self) -> None:
        """Does nothing: each picture's file is closed as soon as it is read."""

    def _slots(self, reader: StillReader) -> int:
        lasts_s = reader.duration_s or 0.0
        return max(1, math.ceil(lasts_s * self._fps - 1e-6))


def natural_key(path: Path) -> list[str | int]:
    """Returns a sort key under which the numbers in file names count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name.lower())]


def _is_picture(path: Path) -> bool:
    """Whether a file has a picture's name, or is a picture under another name."""
    if not path.is_file() or path.name.startswith("."):
        return False
    if _PICTURE.fullmatch(path.name):
        return True
    with suppress(OSError), path.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
        return kind is not None and kind.opened is not None
    return False


def _open(path: Path) -> StillReader:
    try:
        return StillReader(path.read_bytes(), name=str(path))
    except OSError:
        raise PictureError(f"{path} may not be read; give this user the right to it.") from None
