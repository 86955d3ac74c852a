from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.errors import UsageError
from streamvlm.wire import FrameMessage

SECONDS = st.none() | st.integers(0, 2**53).map(lambda microseconds: microseconds / 1e6)


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1), SECONDS, SECONDS)
def test_a_frame_message_comes_out_as_it_went_in(
    sequence: int, picture: bytes, time_s: float | None, captured_s: float | None
) -> None:
    message = FrameMessage(sequence, picture, time_s, captured_s)
    assert FrameMessage.unpack(message.pack()) == message


def test_the_header_is_as_documented() -> None:
    packed = FrameMessage(7, b"jpeg", 1.5).pack()
    assert packed == b"SV\x01\x01" + bytes([0, 0, 0, 7]) + (1_500_000).to_bytes(8, "big") + bytes(8) + b"jpeg"


@given(st.binary(max_size=64))
def test_any_bytes_are_a_frame_or_refused_in_a_sentence(message: bytes) -> None:
    if message.startswith(b"SV\x01") and len(message) > 24:
        FrameMessage.unpack(message)
    else:
        with pytest.raises(UsageError, match=r"message"):
            FrameMessage.unpack(message)


def test_a_message_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="version 2"):
        FrameMessage.unpack(b"SV\x02" + bytes(30))
