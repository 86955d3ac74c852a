"""Converts an image that Pillow has decoded, of any mode and depth, to RGB: of 8 bits, in sRGB, on white."""

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

    More than 8 bits are scaled by their depth; a colour profile is applied; transparent pixels are laid on white.
    """
    if image.mode in _DEEP:
        image = _shallow(image)
    if not image.has_transparency_data:
        return np.asarray(_in_srgb(image), dtype=np.uint8)
    translucent = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(_in_srgb(translucent.convert("RGB")), mask=translucent.getchannel("A"))
    return np.asarray(white, dtype=np.uint8)


def _shallow(image: Image.Image) -> Image.Image:
    """Converts a grey image of more than 8 bits to 8, with alpha where one of its greys is transparent."""
    values = np.asarray(image)
    grey = Image.fromarray((values.clip(0) * (255 / _white(image, values)) + 0.5).astype(np.uint8))
    if (key := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _white(image: Image.Image, values: NDArray[np.generic]) -> float:
    """Returns the value of white."""
    if values.dtype.kind == "f":
        return max(1.0, float(values.max()))
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    return float((1 << bits) - 1)


def _in_srgb(image: Image.Image) -> Image.Image:
    """Converts an image to RGB, and to sRGB if it has a colour profile."""
    profile = image.info.get("icc_profile")
    if image.mode not in _SPACES.values():
        image = image.convert("RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, TypeError):  # a malformed profile says nothing
            used = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if _SPACES.get(used.profile.xcolor_space) == image.mode:
                to_srgb = ImageCms.buildTransform(used, ImageCms.createProfile("sRGB"), image.mode, "RGB")
                return to_srgb.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # as converting RGB to RGB would copy it
