"""Data URLs and base64 as strangers write them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_server.errors import Base64Error, MediaUrlError, TooLargeError
from streamvlm_server.untrusted.data_url import DataUrl, decode_base64, is_data_url, parse_data_url


@given(st.binary(max_size=300), st.sampled_from(["image/jpeg", "image/png", "video/mp4"]))
def test_data_urls_give_back_their_bytes(data: bytes, media_type: str) -> None:
    parsed = parse_data_url(f"data:{media_type};base64,{base64.b64encode(data).decode()}")
    assert parsed.media_type == media_type
    assert decode_base64(parsed.payload, max_bytes=300) == data


@pytest.mark.parametrize("url", ["", "data:", "data:image/png,abc", "https://a.org/b.png", "data:image/png;base64"])
def test_what_is_no_base64_data_url_is_refused(url: str) -> None:
    with pytest.raises(MediaUrlError, match="data URL"):
        parse_data_url(url)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        ("data:image/png;base64,", "image/png"),
        ("DATA:IMAGE/PNG;BASE64,", "image/png"),
        ("data:image/png;charset=utf-8;base64,", "image/png"),
        ("data:image/png;name=my photo (1).png;charset=utf-8;base64,", "image/png"),
        ("data:image/png;base64;charset=utf-8,", "image/png"),
        ("data:image/png; base64,", "image/png"),
        (" \n data:image/png;base64,", "image/png"),
        ("data:;base64,", ""),
        ("data:base64,", ""),
        ("data:png;base64,", ""),
    ],
)
def test_data_urls_are_read_with_whatever_stands_before_the_bytes(head: str, media_type: str) -> None:
    assert parse_data_url(f"{head}AAAA,") == DataUrl(media_type, "AAAA,")
    assert is_data_url(head)


@pytest.mark.parametrize("url", ["https://a.org/data:", "iVBORw0KGgo=", "", " " * 100 + "data:"])
def test_what_is_elsewhere_is_no_data_url(url: str) -> None:
    assert not is_data_url(url)


def test_a_data_url_without_an_end_to_its_head_costs_nothing() -> None:
    with pytest.raises(MediaUrlError):
        parse_data_url("data:" + ";a=b" * 10_000_000)


@pytest.mark.parametrize(
    "written",
    [
        base64.encodebytes,
        base64.urlsafe_b64encode,
        lambda data: base64.b64encode(data).rstrip(b"="),
        lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
        lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
        lambda data: b" ".join(re.findall(b".{1,5}", base64.b64encode(data))),
        lambda data: quote(base64.b64encode(data), safe="").encode(),
        lambda data: quote(base64.encodebytes(data), safe="").encode(),
        lambda data: b"".join(b"%%%02x" % letter for letter in base64.b64encode(data)),
        lambda data: b"\t" + base64.b64encode(data) + b"\n\n",
    ],
)
def test_base64_is_read_as_people_have_it(written: Callable[[bytes], bytes]) -> None:
    for n_bytes in (0, 1, 2, 3, 254, 255, 256):
        data = bytes(range(256 - n_bytes, 256))
        assert decode_base64(written(data).decode(), max_bytes=256) == data


def test_base64_is_bounded_and_says_what_it_is_not() -> None:
    for text in ("A" * 4004, "A\n" * 4004, "%41" * 4004):
        with pytest.raises(TooLargeError):
            decode_base64(text, max_bytes=3000)
        assert decode_base64(text[: len(text) // 4004 * 4000], max_bytes=3000) == bytes(3000)
    for bad, says in {
        "A": "its end cut off", "AAAAA": "its end cut off", "ä===": "'ä' in it", "b'AAAA'": '"\'" in it',
        "AA#A": "'#' in it", "AA==AAAA": "padding in its midst", "AAA=A": "padding in its midst", "AA%": "'%' in it",
        "AA%zz": "'%' in it", "\ud800AAA": "'?' in it",
        "AA\N{GRINNING FACE}A": "'\N{GRINNING FACE}' in it", "AAAA%F0%9F%98%80": "'\N{GRINNING FACE}' in it",
        "AA%FFAA": "'%ff' in it",
    }.items():  # fmt: skip
        with pytest.raises(Base64Error, match=re.escape(says)):
            decode_base64(bad, max_bytes=3000)


@given(
    st.text("AQz9+/-_=%2Bf \n\N{SNOWMAN}", max_size=40)
    | st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode())
)
def test_base64_in_slices_is_read_and_refused_as_a_whole(text: str) -> None:
    letters = unquote_to_bytes(text).translate(bytes.maketrans(b"-_", b"+/"), delete=b" \n").rstrip(b"=")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("streamvlm_server.untrusted.data_url._SLICE", 4)
        try:
            expected = base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
        except ValueError:
            with pytest.raises(Base64Error):
                decode_base64(text, max_bytes=1000)
        else:
            assert decode_base64(text, max_bytes=1000) == expected
