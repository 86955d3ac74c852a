"""The kinds of still pictures, found by the content of a file: names and media types are often wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

HEAD_BYTES = 4096
"""Bytes from the beginning of a file that are enough to find its kind."""


@dataclass(frozen=True, slots=True)
class StillKind:
    """A kind of still pictures.

    Attributes:
        name: For messages.
        marks: Matches the beginning of its files.
        opened: Reads its header; None for a kind that is known, but cannot be read here.
    """

    name: str
    marks: re.Pattern[bytes]
    opened: Callable[..., ImageFile] | None = None


def _kind(name: str, marks: bytes, opened: Callable[..., ImageFile] | None = None) -> StillKind:
    return StillKind(name, re.compile(marks, re.DOTALL), opened)


# ISO base media, as MP4 is: the major brand, or one of the compatible ones where it says no more than "pictures".
_BRANDS = rb"....ftyp(?:%(one)b|(?:mif1|msf1|miaf)....(?:(?!\0\0).{4}){0,12}?%(one)b)"

_KINDS = (
    _kind("JPEG", rb"\xff\xd8\xff(?!\xf7)", JpegImageFile),
    _kind("PNG", rb"\x89PNG\r\n\x1a\n", PngImageFile),
    _kind("GIF", rb"GIF8[79]a", GifImageFile),
    _kind("WebP", rb"RIFF....WEBPVP8", WebPImageFile),
    _kind("AVIF", _BRANDS % {b"one": rb"avi[fs]"}, AvifImageFile),
    _kind("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", BmpImageFile),
    _kind("camera raw", rb"II\*\0.{4}CR|....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR"),
    _kind("TIFF", rb"II[*+]\0|MM\0[*+]", TiffImageFile),
    _kind("PPM", rb"P[1-6Ff]\s", PpmImageFile),
    _kind("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", Jpeg2KImageFile),
    _kind("HEIC", _BRANDS % {b"one": rb"he(?:ic|ix|im|is|vc|vx)"}),
    _kind("HEIF", rb"....ftyp(?:mif1|msf1|miaf)"),
    _kind("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _kind("SVG", rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*?\?>\s*)?(?:<!.*?>\s*)?<svg[\s>]"),
    _kind("PDF", rb"%PDF-"),
)

READ = ", ".join(kind.name for kind in _KINDS if kind.opened is not None)
"""Names of the kinds that can be read."""

# Where a file has the code points of its colours: primaries and transfer, as in ISO/IEC 23091-2.
_CODE_POINTS = {
    "AVIF": re.compile(rb"colrnclx\0(.)\0(.)", re.DOTALL),
    "PNG": re.compile(rb"\0\0\0\x04cICP(.)(.)|IDAT", re.DOTALL),
}


def kind_of(head: bytes) -> StillKind | None:
    """Returns the kind of a still picture from its first `HEAD_BYTES`, or all of it; None for an unknown kind."""
    return next((kind for kind in _KINDS if kind.marks.match(head[:HEAD_BYTES])), None)


def code_points_of(kind: str, data: bytes) -> tuple[int, int] | None:
    """Returns the primaries and the transfer of a file's colours; None if the file does not say."""
    found = _CODE_POINTS[kind].search(data) if kind in _CODE_POINTS else None
    return (found[1][0], found[2][0]) if found and found[1] else None
