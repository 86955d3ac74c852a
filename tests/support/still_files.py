"""Still pictures as bytes: in all formats that Pillow writes, and PNGs part by part as it would not write them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from streamvlm.frame import Picture
from streamvlm.ingest.stills.still import StillReader


def corners(width: int = 48, height: int = 32) -> Picture:
    """Makes four corners in four colours, which look different in each of the eight orientations, through any codec."""
    picture = np.empty((height, width, 3), np.uint8)
    for rows, row in ((slice(None, height // 2), 0), (slice(height // 2, None), 1)):
        for columns, column in ((slice(None, width // 2), 0), (slice(width // 2, None), 1)):
            picture[rows, columns] = [[(200, 40, 40), (40, 180, 60)], [(50, 60, 190), (220, 210, 200)]][row][column]
    return picture


def as_still(picture: Picture | Image.Image, kind: str, **options: Any) -> bytes:
    """Writes a file of a kind, by Pillow's name of it."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_animation(pictures: Sequence[Picture], kind: str, every_ms: int | list[int], **options: Any) -> bytes:
    """Writes an animation of a kind, by Pillow's name of it."""
    first, *rest = map(Image.fromarray, pictures)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return as_still(first, kind, save_all=True, append_images=rest, duration=every_ms, **lossless, **options)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Makes a chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def as_png(size: tuple[int, int], depth: int, colour: int, rows: Sequence[bytes], *more: bytes) -> bytes:
    """Makes a PNG of any depth and colour type, from packed rows; `more` chunks come before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = (png_chunk(b"IHDR", header), *more, png_chunk(b"IDAT", pixels), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def decode_still(data: bytes, *, name: str, max_px: int | None = None) -> Picture:
    """Decodes a still picture; of an animation, the first one. Arguments and errors are those of `StillReader`."""
    _, decoded = next(iter(StillReader(data, name=name, max_px=max_px)))
    return decoded()
