"""Pictures of a blue star in the top-right, in all the formats that people have."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from kinds.clip import Clip, erased, resized, square, star
from kinds.heif import heic
from kinds.kind import HELD_UPRIGHT, NOW, STAR, STILL, Kind, Outcome, Refused, Right
from kinds.writing import write
from numpy.typing import NDArray
from PIL import Image

_OPEN = (*STILL, "image_url as a string", "source", "watch")
"""Every door, for a picture that stands for all others there."""


def still(
    name: str,
    what: str,
    file: str,
    data: Callable[[], bytes],
    outcome: Outcome = STAR,
    doors: tuple[str, ...] = STILL,
    but: Mapping[str, Outcome] | None = None,
) -> Kind:
    """A kind whose bytes do not depend on the clip."""
    return Kind(name, what, file, lambda path, clip: _write(path, data()), outcome, doors, but or {})


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def jpeg() -> bytes:
    """The star as a JPEG."""
    return _pillow("JPEG")


def _pillow(format: str, image: Image.Image | None = None, **how: Any) -> bytes:
    data = io.BytesIO()
    (image or _star()).save(data, format, **how)
    return data.getvalue()


def _opencv(suffix: str, picture: NDArray[Any]) -> bytes:
    """A picture of RGB or grey, of 8 or 16 bits."""
    return cv2.imencode(suffix, picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()


def _star() -> Image.Image:
    return Image.fromarray(star())


def _grey() -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(star(), cv2.COLOR_RGB2GRAY), np.uint8)


def _wide(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The same in 16 bits."""
    return picture.astype(np.uint16) * 257


def _exif(orientation: int, format: str = "JPEG") -> bytes:
    """The star as a camera stores it that was held so."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    way = Image.Transpose
    stored = {  # what undoes the turn that the orientation asks for
        1: None, 2: way.FLIP_LEFT_RIGHT, 3: way.ROTATE_180, 4: way.FLIP_TOP_BOTTOM,
        5: way.TRANSPOSE, 6: way.ROTATE_90, 7: way.TRANSVERSE, 8: way.ROTATE_270,
    }[orientation]  # fmt: skip
    return _pillow(format, _star() if stored is None else _star().transpose(stored), exif=exif, quality=92)


def _palette() -> bytes:
    """A palette of which one colour, red, is transparent, and is all over the bottom-left."""
    image = Image.fromarray(erased(star())[..., :3]).quantize(64)
    return _pillow("PNG", image, transparency=image.getpixel((160 // 6, 100)))


def _interlaced() -> bytes:
    coder: Any = av.CodecContext.create("png", "w")
    coder.height, coder.width, coder.pix_fmt = *star().shape[:2], "rgb24"
    coder.options, coder.time_base = {"flags": "+ildct"}, 1
    return bytes(coder.encode(VideoFrame.from_ndarray(star()))[0])


def _two_in_one() -> bytes:
    """A JPEG with another picture behind it, as phones keep a map of its brightness there."""
    return _pillow("MPO", save_all=True, append_images=[Image.fromarray(square()).convert("L").convert("RGB")])


def _moving(path: Path, clip: Clip) -> None:
    """A JPEG with a short video behind it."""
    write(path, clip, container="mp4")
    path.write_bytes(_pillow("JPEG") + path.read_bytes())


def _with_alpha(format: str, **how: Any) -> bytes:
    return _pillow(format, Image.fromarray(erased(star())), **how)


def _grey_and_alpha() -> bytes:
    """Grey, with an erased black circle."""
    return _pillow("PNG", Image.fromarray(erased(star())).convert("LA"))


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def _dithered() -> Image.Image:
    return Image.fromarray(resized(star(), 640, 480)).convert("1")


_BLACK = Right({NOW: "a black star"}, ends_s=(0.0, 2.0))
_ERASED = Right({NOW: "a blue star", "did you see a red circle?": "no"}, ends_s=(0.0, 2.0))
_ERASED_GREY = Right({NOW: "a black star", "did you see a black circle?": "no"}, ends_s=(0.0, 2.0))
_CUT = Refused("(?i)cut short|damaged", "invalid_image")
_SKIPPED = Right({NOW: "a purple square"}, ends_s=(0.0, 0.0), warns="1 corrupt")
_SHORT_OF = {"folder": _SKIPPED}
_UNREAD = Refused("is HEIC, .*JPEG", "invalid_image")

STILLS = [
    still("jpeg", "JPEG", "star.jpg", lambda: _pillow("JPEG"), doors=_OPEN),
    still("jpeg-progressive", "progressive JPEG", "star.jpg", lambda: _pillow("JPEG", progressive=True)),
    still("jpeg-444", "JPEG with all of its colours", "star.jpg", lambda: _pillow("JPEG", subsampling=0)),
    still("jpeg-grey", "grey JPEG", "star.jpeg", lambda: _pillow("JPEG", _star().convert("L")), _BLACK),
    still("jpeg-cmyk", "JPEG for print, in CMYK", "star.jpg", lambda: _pillow("JPEG", _star().convert("CMYK"))),
    *(
        still(f"exif-{n}", f"JPEG of EXIF orientation {n}", "star.jpg", partial(_exif, n), HELD_UPRIGHT,
            doors=_OPEN if n == 2 else STILL)
        for n in range(1, 9)
    ),
    still("exif-png", "PNG of EXIF orientation 6", "star.png", partial(_exif, 6, "PNG"), HELD_UPRIGHT),
    still("exif-webp", "WebP of EXIF orientation 5", "star.webp", partial(_exif, 5, "WEBP"), HELD_UPRIGHT),
    still("jpeg-gain-map", "JPEG with a second picture behind it, as phones add it", "star.jpg", _two_in_one),
    Kind("jpeg-motion", "JPEG with a video behind it, a motion photo", "star.jpg", _moving, STAR, STILL),
    still("jpeg-as-png", "a JPEG called .png", "star.png", lambda: _pillow("JPEG")),
    still("jpeg-upper-case", "a JPEG called .JPG", "STAR.JPG", lambda: _pillow("JPEG")),
    still("jpeg-cut", "a JPEG cut short", "star.jpg", lambda: _cut(_pillow("JPEG", quality=95)), _CUT, but=_SHORT_OF),
    still("png", "PNG", "star.png", lambda: _pillow("PNG")),
    still("png-grey", "grey PNG", "star.png", lambda: _opencv(".png", _grey()), _BLACK),
    still("png-16", "PNG of 16 bits", "star.png", lambda: _opencv(".png", _wide(star()))),
    still("png-grey-16", "grey PNG of 16 bits", "star.png", lambda: _opencv(".png", _wide(_grey())), _BLACK),
    still("png-palette", "PNG with a palette", "star.png", lambda: _pillow("PNG", _star().quantize(64))),
    still("png-palette-erased", "PNG with a palette, a red circle erased by it", "star.png", _palette, _ERASED),
    still("png-erased", "PNG, a red circle erased by alpha", "star.png", lambda: _with_alpha("PNG"), _ERASED),
    still("png-grey-erased", "grey PNG, a circle erased by alpha", "star.png", _grey_and_alpha, _ERASED_GREY),
    still("png-1-bit", "PNG of black and white dots", "star.png", lambda: _pillow("PNG", _dithered()),
        _BLACK),
    still("png-interlaced", "interlaced PNG", "star.png", _interlaced),
    still("png-cut", "a PNG cut short", "star.png", lambda: _cut(_pillow("PNG")), _CUT, but=_SHORT_OF),
    still("webp", "WebP", "star.webp", lambda: _pillow("WEBP", quality=90)),
    still("webp-lossless", "WebP without loss", "star.webp", lambda: _pillow("WEBP", lossless=True)),
    still("webp-erased", "WebP, a red circle erased by alpha", "star.webp",
        lambda: _with_alpha("WEBP", lossless=True, exact=True), _ERASED),
    still("gif", "GIF of one picture", "star.gif", lambda: _pillow("GIF")),
    still("bmp", "BMP", "star.bmp", lambda: _pillow("BMP")),
    still("tiff", "TIFF", "star.tif", lambda: _pillow("TIFF")),
    still("tiff-lzw", "TIFF in LZW", "star.tiff", lambda: _pillow("TIFF", compression="tiff_lzw")),
    still("tiff-16", "TIFF of 16 bits", "star.tif", lambda: _opencv(".tiff", _wide(star()))),
    still("ppm", "PPM", "star.ppm", lambda: _pillow("PPM")),
    still("pgm-16", "PGM of 16 bits", "star.pgm", lambda: _opencv(".pgm", _wide(_grey())), _BLACK),
    still("jpeg-2000", "JPEG 2000", "star.jp2", lambda: _pillow("JPEG2000")),
    still("avif", "AVIF", "star.avif", lambda: _pillow("AVIF", quality=90)),
    still("avif-erased", "AVIF, a red circle erased by alpha", "star.avif",
        lambda: _with_alpha("AVIF", quality=100, subsampling="4:4:4"),
        _ERASED),
    still("heic", "HEIC", "star.heic", lambda: heic(resized(star(), 256, 192)), _UNREAD, but=_SHORT_OF),
]  # fmt: skip
