"""HEIC: an HEVC key picture in the boxes of HEIF (ISO/IEC 23008-12)."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import av
from av.video.frame import VideoFrame

from streamvlm.frame import Picture

_START = b"\0\0\1"
_PARAMETERS = (32, 33, 34)
"""Kinds of HEVC's units that are no pictures: VPS, SPS and PPS."""


def heic(picture: Picture) -> bytes:
    """A picture of (height, width, 3) uint8 RGB as HEIC."""
    units = [(unit[0] >> 1 & 63, unit) for unit in _hevc(picture)]
    coded = b"".join(struct.pack(">I", len(unit)) + unit for kind, unit in units if kind < _PARAMETERS[0])
    ftyp = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    properties = _box(b"hvcC", _configuration(units)) + _full(
        b"ispe", struct.pack(">II", picture.shape[1], picture.shape[0])
    )
    data_at = len(ftyp) + len(_meta(properties, 0, len(coded))) + 8
    return ftyp + _meta(properties, data_at, len(coded)) + _box(b"mdat", coded)


def _hevc(picture: Picture) -> list[bytes]:
    """The NAL units of one key picture."""
    coder: Any = av.CodecContext.create("libx265", "w")
    coder.height, coder.width, coder.pix_fmt = *picture.shape[:2], "yuvj420p"
    coder.time_base, coder.options = Fraction(1), {"x265-params": "log-level=none:keyint=1:pools=1:crf=12:info=0"}
    frame = VideoFrame.from_ndarray(picture).reformat(format="yuvj420p")
    data = b"".join(bytes(packet) for packet in [*coder.encode(frame), *coder.encode()])
    return [unit.strip(b"\0") for unit in data.split(_START) if unit.strip(b"\0")]


def _configuration(units: list[tuple[int, bytes]]) -> bytes:
    """What a decoder has to know beforehand (ISO/IEC 14496-15)."""
    sets = {kind: next(unit for one, unit in units if one == kind) for kind in _PARAMETERS}
    profile = sets[33].replace(b"\0\0\3", b"\0\0")[3:15]  # of the SPS: profile, tier and level
    fixed = struct.pack(">HBBBBHB", 0xF000, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0x0F)
    arrays = [struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit for kind, unit in sets.items()]
    return b"\1" + profile + fixed + bytes([len(arrays)]) + b"".join(arrays)


def _meta(properties: bytes, data_at: int, n_bytes: int) -> bytes:
    """That there is one item, what it is like, and where its data lies."""
    item = _box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0) + b"hvc1\0")
    links = _full(b"ipma", struct.pack(">IHBBB", 1, 1, 2, 0x81, 0x82))
    return _full(
        b"meta",
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        + _full(b"pitm", struct.pack(">H", 1))
        + _full(b"iloc", struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, data_at, n_bytes))
        + _full(b"iinf", struct.pack(">H", 1) + item)
        + _box(b"iprp", _box(b"ipco", properties) + links),
    )


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def _full(kind: bytes, data: bytes) -> bytes:
    """A box with version and flags of 0."""
    return _box(kind, bytes(4) + data)
