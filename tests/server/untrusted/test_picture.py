"""Bounds of pictures from strangers."""

from __future__ import annotations

import pytest
from still_files import as_still, corners

from streamvlm.errors import PictureTooLargeError
from streamvlm_server.errors import TooLargeError
from streamvlm_server.untrusted.picture import PictureBounds, open_still


def test_too_many_bytes_of_a_picture_are_refused() -> None:
    with pytest.raises(TooLargeError, match="has more than the 1000B allowed"):
        open_still(bytes(2000), PictureBounds(max_bytes=1000, max_px=1000))


def test_too_many_pixels_of_a_picture_are_refused() -> None:
    with pytest.raises(PictureTooLargeError, match="48x32 and 1000 pixels are allowed"):
        open_still(as_still(corners(), "PNG"), PictureBounds(max_bytes=100_000, max_px=1000))
