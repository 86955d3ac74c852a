"""The picture at the top of the README shows a run of the program as it is now."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from streamvlm_demos.timeline import draw, watch

DRAWN = Path(__file__).parents[2] / "docs" / "timeline.svg"


def words_and_numbers(svg: str) -> tuple[str, list[float]]:
    """Takes a drawing apart, without its pictures: how a JPEG is written differs between versions of a library."""
    plain = re.sub(r'base64,[^"]+', "", svg)
    number = r"\d+\.\d\b"
    return re.sub(number, "#", plain), [float(found) for found in re.findall(number, plain)]


@pytest.mark.only_on("cpu", "the picture was drawn there, and scores differ with the device's rounding")
def test_the_timeline_of_the_readme_is_that_of_a_run(device: str) -> None:
    words, numbers = words_and_numbers(DRAWN.read_text("utf-8"))
    words_now, numbers_now = words_and_numbers(draw(watch(device)))
    assert words_now == words, "draw it again: make drawings"
    assert len(numbers) > 500
    np.testing.assert_allclose(numbers_now, numbers, atol=0.5)  # of a pixel
