"""Decodes still pictures and animations from their bytes, for files, chats and frames alike.

The bytes may be hostile: the size is read from the header and bounded before a pixel is decoded, and every failure of a
decoder becomes an error of one sentence.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.ExifTags import Base
from PIL.Image import DecompressionBombError, Image
from PIL.ImageFile import ImageFile
from xxhash import xxh3_128_digest

from streamvlm.errors import PictureError, PictureTooLargeError
from streamvlm.frame import Picture
from streamvlm.ingest.early_end import clock
from streamvlm.ingest.mistaken import what_is
from streamvlm.ingest.orientation import UPRIGHT, upright
from streamvlm.ingest.picture import as_sdr
from streamvlm.ingest.raw import is_motion_jpeg
from streamvlm.ingest.reader import Decoded
from streamvlm.ingest.stills.colours import to_rgb
from streamvlm.ingest.stills.kinds import HEAD_BYTES, READ, StillKind, code_points_of, kind_of
from streamvlm.ingest.stills.repair import is_cut_short, repairs_of

_ANIMATED = ("AVIF", "GIF", "PNG", "WebP")  # the pages of a TIFF and the views of a JPEG are no animation
_KEY_SCALES = {"L;2": 85, "L;4": 17}
_MAX_PX = 300_000_000  # decoded, that is a gigabyte
_ANIMATION = 50
_SHORTEST_S, _USUAL_S = 0.01, 0.1  # browsers show a picture of at most the first for the second


def is_still(head: bytes) -> bool:
    """Whether a file is a still picture or an animation, and no video; it may be of a kind that cannot be read here.

    Args:
        head: Its first `kinds.HEAD_BYTES`, or better all of it: a raw video of JPEGs is found by its second JPEG.
    """
    return kind_of(head) is not None and not is_motion_jpeg(head)


def read_still(path: Path) -> bytes | None:
    """Returns the bytes of a file if it `is_still`; else None, also for a device or an unreadable file."""
    if not path.is_file():
        return None
    with suppress(OSError), path.open("rb") as file:
        data = file.read(HEAD_BYTES)
        if is_still(data) and is_still(data := data + file.read()):
            return data
    return None


class StillReader:
    """Decodes a still picture, or the pictures of an animation with the times at which they are shown.

    Args:
        data: The file.
        name: Its name in messages.
        max_px: Most pixels (width times height) of a picture; all pictures of an animation may have fifty times as
            many. By default, more than any camera's pictures have, and an animation is read to its end.

    Attributes:
        is_live: False.
        is_animated: Whether it is an animation.
        duration_s: Seconds until its end; None for a still picture, and before an animation was read to its end.
        n_corrupt_packets: Pictures of an animation that are damaged or cut short so far; it ends with them.
        warning: Says where an animation ended if the rest of it is damaged or missing; else None.

    Raises:
        PictureTooLargeError: If it has too many pixels.
        PictureError: If it is no picture, of a kind that cannot be read, damaged or cut short.
    """

    is_live = False

    def __init__(self, data: bytes, *, name: str, max_px: int | None = None) -> None:
        kind = kind_of(data)
        if kind is None:
            raise PictureError(f"{name} is {_no_picture(data)}; give {READ}.")
        self._image = _open(kind, data, name=name, max_px=max_px or _MAX_PX)
        self.is_animated = kind.name in _ANIMATED and getattr(self._image, "is_animated", False)
        self._name, self._max_px = name, max_px
        self._finish = partial(_to_picture, _orientation(self._image), code_points_of(kind.name, data))
        self.duration_s: float | None = None
        self.warning: str | None = None
        self.n_corrupt_packets = 0

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yield (stream time in seconds, decoded picture) for each picture.

        Raises:
            PictureTooLargeError: If an animation has too many pictures.
        """
        if not self.is_animated:
            yield 0.0, partial(self._finish, self._image)
            return
        time_s, shown_s = 0.0, -1.0
        for place in count(self._image.tell()):
            if not self._seek(place):
                break
            if self._max_px and place * self._image.width * self._image.height > _ANIMATION * self._max_px:
                raise PictureTooLargeError(f"{self._name} has more than {place} pictures; give a shorter one.")
            stated_s = self._image.info["timestamp"] / 1000 if self._image.format == "AVIF" else time_s
            shown_s = stated_s if stated_s > shown_s else time_s  # a damaged file may state any
            yield shown_s, partial(self._finish, self._image.copy())
            time_s = shown_s + _lasts_s(self._image)
        self.duration_s = time_s
        if self.n_corrupt_packets:
            self.warning = f"{self._name} ended at {clock(time_s)}; the rest is damaged or missing, get it whole."

    def close(self) -> None:
        """Close the picture."""
        self._image.close()

    def _seek(self, place: int) -> bool:
        """Decodes the picture at a place of an animation; returns False at its end, and where it is damaged."""
        try:
            try:
                self._image.seek(place)
            except EOFError:
                return False
            self._image.load()
        except Exception:
            self.n_corrupt_packets += 1
            return False
        return True


def _no_picture(data: bytes) -> str:
    if not data:
        return "empty"
    what = what_is(data[:HEAD_BYTES])
    return "no picture that is read here" if what is None else f"{what}, not a picture"


def _open(kind: StillKind, data: bytes, *, name: str, max_px: int) -> ImageFile:
    """Decodes the first picture."""
    if kind.opened is None:
        raise PictureError(f"{name} is {kind.name}, which is not read here; give {READ}.")
    opened = partial(_decode, kind.opened, name=name, max_px=max_px)
    try:
        return opened(data)
    except PictureTooLargeError:
        raise
    except DecompressionBombError as error:  # Pillow has its own bound for WebP and TIFF
        raise PictureTooLargeError(f"{name} has too many pixels; give a smaller one.") from error
    except Exception as error:  # decoders raise anything for hostile bytes
        with suppress(Exception):
            repaired = repairs_of(kind.name, data)
            if len({xxh3_128_digest(opened(whole).tobytes()) for whole in repaired}) == 1:
                return opened(repaired[0])
        if is_cut_short(kind.name, data) or "truncated" in str(error).lower():
            raise PictureError(f"{name} is cut short; give it whole.") from error
        raise PictureError(
            f"{name} is damaged, or cannot be decoded here; check that it is whole, or save it anew in another format."
        ) from error


def _decode(opened: Callable[[BinaryIO], ImageFile], data: bytes, *, name: str, max_px: int) -> ImageFile:
    image = opened(io.BytesIO(data))
    if image.width * image.height > max_px:
        raise PictureTooLargeError(
            f"{name} is {image.width}x{image.height} and {max_px} pixels are allowed; give a smaller one."
        )
    if image.format == "PNG":
        _scale_key(image)
    if getattr(image, "default_image", False):  # of an APNG, for viewers without animations
        image.seek(1)
    image.load()
    return image


def _scale_key(image: ImageFile) -> None:
    """Scales the transparent colour of a PNG to 8 bits, as Pillow scales its pixels."""
    key, depth = image.info.get("transparency"), image.tile[0].args
    if depth in _KEY_SCALES and isinstance(key, int):
        image.info["transparency"] = key * _KEY_SCALES[depth]
    elif depth == "RGB;16B" and key is not None:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _orientation(image: ImageFile) -> int:
    with suppress(Exception):  # malformed EXIF is common, and is ignored
        return int(image.getexif().get(Base.Orientation, UPRIGHT))
    return UPRIGHT


def _lasts_s(image: ImageFile) -> float:
    """Returns the seconds for which a picture of an animation is shown."""
    stated_s: float = image.info.get("duration", 0) / 1000
    return stated_s if stated_s > _SHORTEST_S else _USUAL_S


def _needs_conversion(image: Image) -> bool:
    return image.mode != "RGB" or "icc_profile" in image.info or image.has_transparency_data


def _to_picture(orientation: int, code_points: tuple[int, int] | None, image: Image) -> Picture:
    picture = to_rgb(image) if _needs_conversion(image) else np.asarray(image, dtype=np.uint8)
    if orientation != UPRIGHT:
        picture = upright(picture, orientation)
    return as_sdr(picture, *code_points) if code_points else picture
