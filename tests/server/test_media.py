"""Pictures that nobody vouches for."""

from __future__ import annotations

import base64
import contextlib
import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from streamvlm_server.errors import MediaError, TooLargeError
from streamvlm_server.media import PictureBounds, decode_base64, decode_picture, parse_data_url

BOUNDS = PictureBounds(max_bytes=1 << 20, max_px=4_000_000)


def gradient(width: int, height: int) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, axis=0)
    return Image.fromarray(np.stack([across, across[:, ::-1], np.full_like(across, 128)], axis=-1))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A few bytes that claim to be a picture of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SAMPLES = {kind: encoded(gradient(40, 30), kind) for kind in ("JPEG", "PNG", "WEBP")}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_three_formats_become_rgb_pictures(kind: str) -> None:
    picture = decode_picture(SAMPLES[kind], BOUNDS)
    assert picture.shape == (30, 40, 3)
    assert picture.dtype == np.uint8
    assert picture.flags["C_CONTIGUOUS"]
    assert np.abs(picture.astype(int) - np.asarray(gradient(40, 30), dtype=int)).mean() < 8


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_pictures_of_other_colours_become_rgb_too(mode: str) -> None:
    image = gradient(8, 6).convert(mode)
    assert decode_picture(encoded(image, "JPEG" if mode == "CMYK" else "PNG"), BOUNDS).shape == (6, 8, 3)


def test_a_phone_held_upright_gives_an_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    assert decode_picture(encoded(gradient(40, 30), "JPEG", exif=exif), BOUNDS).shape == (40, 30, 3)


@pytest.mark.parametrize("width", [2001, 9400, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header_at_no_cost(width: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError, match="pixels"):
        decode_picture(png_of(width, width), BOUNDS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; its pixels would be 12 MB up


def test_a_bomb_of_webp_is_refused_at_no_cost() -> None:
    size = struct.pack("<I", 16_383 - 1)[:3] * 2
    frame = struct.pack("<II", 0, 0)
    header = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    data = header + b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", 24) + frame + bytes(16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((TooLargeError, MediaError)):
        decode_picture(b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data, BOUNDS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLargeError, match="bytes"):
        decode_picture(bytes(2 << 20), BOUNDS)


WHOLE = {kind: decode_picture(data, BOUNDS) for kind, data in SAMPLES.items()}


@given(kind=st.sampled_from(sorted(SAMPLES)), share=st.floats(0, 1, exclude_max=True))
def test_a_picture_cut_short_is_refused_unless_all_its_pixels_came_before_the_cut(kind: str, share: float) -> None:
    data = SAMPLES[kind]
    try:
        picture = decode_picture(data[: int(len(data) * share)], BOUNDS)
    except MediaError:
        return
    assert np.array_equal(picture, WHOLE[kind])


@pytest.mark.parametrize("kind", SAMPLES)
def test_half_a_picture_is_refused_in_one_sentence(kind: str) -> None:
    with pytest.raises(MediaError) as caught:
        decode_picture(SAMPLES[kind][: len(SAMPLES[kind]) // 2], BOUNDS)
    assert "\n" not in str(caught.value)


@given(kind=st.sampled_from(sorted(SAMPLES)), place=st.floats(0, 1, exclude_max=True), junk=st.binary(max_size=40))
def test_whatever_the_bytes_there_is_a_picture_or_a_refusal(kind: str, place: float, junk: bytes) -> None:
    data = SAMPLES[kind]
    cut = int(len(data) * place)
    for hostile in (data[:cut] + junk + data[cut + len(junk) :], junk):
        with contextlib.suppress(MediaError, TooLargeError):
            picture = decode_picture(hostile, BOUNDS)
            assert picture.ndim == 3
            assert picture.size <= 3 * BOUNDS.max_px


@given(st.binary(max_size=300), st.sampled_from(["image/jpeg", "image/png", "video/mp4"]))
def test_data_urls_give_back_their_bytes(data: bytes, media_type: str) -> None:
    parsed = parse_data_url(f"data:{media_type};base64,{base64.b64encode(data).decode()}")
    assert parsed.media_type == media_type
    assert decode_base64(parsed.payload, max_bytes=300) == data


@pytest.mark.parametrize("url", ["", "data:", "data:image/png,abc", "https://a.org/b.png", "data:image/png;base64"])
def test_what_is_no_base64_data_url_is_refused(url: str) -> None:
    with pytest.raises(MediaError, match="data URL"):
        parse_data_url(url)


def test_base64_is_bounded_and_strict() -> None:
    with pytest.raises(TooLargeError):
        decode_base64("A" * 4004, max_bytes=3000)
    assert len(decode_base64("A" * 4000, max_bytes=3000)) == 3000
    for bad in ("A", "AAA\n", "ä===", "AA AA"):
        with pytest.raises(MediaError):
            decode_base64(bad, max_bytes=3000)


@given(
    st.text("AQz9+/= \n\N{SNOWMAN}", max_size=40)
    | st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode())
)
def test_base64_in_slices_is_read_and_refused_as_a_whole(text: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("streamvlm_server.media._SLICE", 4)
        try:
            expected = base64.b64decode(text, validate=True)
        except ValueError:
            with pytest.raises(MediaError):
                decode_base64(text, max_bytes=1000)
        else:
            assert decode_base64(text, max_bytes=1000) == expected
