"""HDR video beside the SDR picture that it was made of, and beside what FFmpeg's own tone mapping makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from looking import apart, first_picture
from numpy.typing import NDArray
from still_files import as_still, decode_still, png_chunk

from streamvlm.errors import SourceError
from streamvlm.frame import Picture
from streamvlm.ingest.picture import PictureConverter
from streamvlm.world.events import Thing
from streamvlm.world.render import draw_picture

Light = NDArray[np.float64]

PQ, HLG = 16, 18  # ISO/IEC 23091-2, transfer characteristics
ICTCP = 14
BT2020 = 9  # the same, primaries and matrix
WHITE = 203.0
"""cd/m² of what is white in SDR, ITU-R BT.2408."""

_TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087
_LUMA = np.array([0.2627, 0.6780, 0.0593])


def as_light(picture: Picture) -> Light:
    """cd/m² on a display, in BT.2020's primaries; SDR by ITU-R BT.1886."""
    return np.asarray((picture / 255.0) ** 2.4 * WHITE @ _TO_2020.T)


def as_pq(light: Light) -> Light:
    """SMPTE ST 2084."""
    power = (light / 10_000).clip(0) ** (2610 / 16384)
    return np.asarray(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


def as_hlg(light: Light) -> Light:
    """ARIB STD-B67, for a display of 1000 cd/m²."""
    luma = np.maximum((light / 1000) @ _LUMA, 1e-9)[..., None]
    scene = (light / 1000 * luma ** (1 / 1.2 - 1)).clip(0)
    bright = 0.17883277 * np.log(12 * scene.clip(1 / 12) - 0.28466892) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright))


CURVES = {PQ: as_pq, HLG: as_hlg}


def write_hdr(path: Path, light: Light, transfer: int) -> Path:
    """HEVC of 10 bits, as phones write it."""
    height, width = light.shape[:2]
    deep = (CURVES[transfer](light) * 65535).round().astype(np.uint16)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx265", rate=5, options={"x265-params": "log-level=none:crf=4:bframes=0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, BT2020
        context.colorspace, context.color_range = BT2020, 1
        frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=BT2020, dst_color_range=1)
        for frame.pts in range(2):  # of one alone, libx265 does not tell when it is to be decoded
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


SCENE = draw_picture("sea", {"top-right": Thing("blue", "star", None)}, np.random.default_rng(1))
RAMP = np.broadcast_to(np.linspace(0, 1000, 320)[None, :, None], (32, 320, 3))
"""Far beyond white, below the scene."""


@pytest.fixture(scope="module", params=CURVES, ids=["PQ", "HLG"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Picture]:
    """A video and its first picture as we see it."""
    path = tmp_path_factory.mktemp("hdr") / "a.mp4"
    write_hdr(path, np.vstack([as_light(SCENE), RAMP]), request.param)
    return path, first_picture(path)


def test_hdr_looks_as_the_sdr_that_it_was_made_of(clip: tuple[Path, Picture]) -> None:
    assert apart(clip[1][:240], SCENE) < 4


def test_what_is_brighter_than_white_is_no_darker(clip: tuple[Path, Picture]) -> None:
    row = clip[1][256, :, 1].astype(int)
    assert (np.diff(row) >= -1).all()
    assert row[0] < 8
    assert row[64] == pytest.approx(253, abs=4)  # 200 cd/m²
    assert row[-1] >= 253


@pytest.mark.skipif(shutil.which("ffmpeg") is None and not os.environ.get("CI"), reason="ffmpeg is not installed")
def test_it_differs_little_from_ffmpegs_own_tone_mapping(clip: tuple[Path, Picture]) -> None:
    path, ours = clip
    assert apart(ours, tone_mapped(path, "clip")) < 6
    assert apart(ours, tone_mapped(path, "mobius")) < 24  # which darkens white, to leave room above


def tone_mapped(path: Path, curve: str) -> Picture:
    """What the filters zscale and tonemap make of the first picture, with 203 cd/m² as white."""
    filters = (
        f"zscale=t=linear:npl={WHITE:g},format=gbrpf32le,zscale=p=bt709,tonemap={curve}:desat=0,"
        "zscale=t=bt709:m=bt709:r=full,format=gbrp"
    )
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", filters, "-frames:v", "1", "-pix_fmt", "rgb24"]
    done = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(272, 320, 3)


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
def test_hdr_stills_look_as_the_sdr_that_they_were_made_of(kind: str) -> None:
    stored = (as_pq(as_light(SCENE)) * 255).round().astype(np.uint8)
    if kind == "PNG":
        data = as_still(stored, "PNG")
        data = data[:33] + png_chunk(b"cICP", bytes([BT2020, PQ, 0, 1])) + data[33:]
    else:
        data = as_still(stored, "AVIF", quality=100, subsampling="4:4:4")
        told = data.index(b"colrnclx") + 8
        data = data[:told] + bytes([0, BT2020, 0, PQ]) + data[told + 4 :]  # its matrix stays
    assert apart(decode_still(data, name="a.png"), SCENE) < 6


def test_colours_that_cannot_be_converted_are_told_in_a_sentence() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    frame.color_trc, frame.color_primaries, frame.colorspace = PQ, BT2020, ICTCP
    with pytest.raises(SourceError, match=r"colours are stored in a way that is not read .*; convert it to BT\.709\.$"):
        PictureConverter(None)(frame)


@pytest.mark.parametrize(("matrix", "name"), [(1, "ITU709"), (6, "ITU601")])
@pytest.mark.parametrize("colour_range", [1, 2])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_sdr_is_converted_by_its_own_matrix_and_range(
    matrix: int, name: str, colour_range: int, pixel_format: str
) -> None:
    colour = np.full((32, 48, 3), (200, 40, 90), np.uint8)
    frame = av.VideoFrame.from_ndarray(colour, format="rgb24")
    frame = frame.reformat(format=pixel_format, dst_colorspace=name, dst_color_range=colour_range)
    frame.colorspace, frame.color_range = matrix, colour_range
    assert apart(PictureConverter(None)(frame), colour) < 4
