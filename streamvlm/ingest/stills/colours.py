"""From an image as Pillow decodes it, of any mode and depth, to RGB as people see it: scaled, in sRGB, on white."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from streamvlm.frame import Picture

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_BITS_PER_SAMPLE = 258  # of TIFF
_SPACES = {"RGB ": "RGB", "CMYK": "CMYK"}  # those of ICC profiles, as Pillow calls them


def to_rgb(image: Image.Image) -> Picture:
    """Converts a decoded image to (height, width, 3) uint8 RGB.

    More than 8 bits are scaled by their depth; a colour profile is followed; what is see-through is laid on white.
    """
    if image.mode in _DEEP:
        image = _shallow(image)
    if not image.has_transparency_data:
        return np.asarray(_in_srgb(image), dtype=np.uint8)
    see_through = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(_in_srgb(see_through.convert("RGB")), mask=see_through.getchannel("A"))
    return np.asarray(white, dtype=np.uint8)


def _shallow(image: Image.Image) -> Image.Image:
    """A grey image of more than 8 bits in 8, with alpha where one of its greys is see-through."""
    values = np.asarray(image)
    grey = Image.fromarray((values.clip(0) * (255 / _white(image, values)) + 0.5).astype(np.uint8))
    if (key := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _white(image: Image.Image, values: NDArray[np.generic]) -> float:
    """The value that stands for white."""
    if values.dtype.kind == "f":
        return max(1.0, float(values.max()))
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    return float((1 << bits) - 1)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image in RGB, its colours those of sRGB if it has a profile that says what they are."""
    profile = image.info.get("icc_profile")
    if image.mode not in _SPACES.values():
        image = image.convert("RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, TypeError):  # a malformed profile says nothing
            used = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if _SPACES.get(used.profile.xcolor_space) == image.mode:
                to_srgb = ImageCms.buildTransform(used, ImageCms.createProfile("sRGB"), image.mode, "RGB")
                return to_srgb.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy what is RGB already
