"""Pictures that nobody vouches for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from still_files import as_still, corners

from streamvlm.errors import PictureTooLargeError
from streamvlm_server.errors import MediaError, TooLargeError
from streamvlm_server.media import PictureBounds, decode_base64, open_still, parse_data_url


def test_too_many_bytes_of_a_picture_are_refused() -> None:
    with pytest.raises(TooLargeError, match="has 2000 bytes and 1000 are allowed"):
        open_still(bytes(2000), PictureBounds(max_bytes=1000, max_px=1000))


def test_too_many_pixels_of_a_picture_are_refused() -> None:
    with pytest.raises(PictureTooLargeError, match="48x32 and 1000 pixels are allowed"):
        open_still(as_still(corners(), "PNG"), PictureBounds(max_bytes=100_000, max_px=1000))


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
