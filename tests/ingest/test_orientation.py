"""Videos that say how their pictures are to be turned, mirrored and stretched, and what of them is see-through."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from colour_clips import write_still_clip
from looking import apart, first_picture
from still_files import corners

from streamvlm.frame import Picture
from streamvlm.ingest.orientation import orientation_of, upright

ONE = 1 << 16
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""By EXIF's number, what a video says of the same: a, b, c, d of its display matrix."""


def nine(a: float, b: float, c: float, d: float) -> tuple[int, ...]:
    return (round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, 1 << 30)


def stored_for(orientation: int) -> Picture:
    """How a picture is stored that is upright under an orientation: by the matrix, point by point."""
    a, b, c, d = MATRICES[orientation]
    picture = corners()
    stored = np.empty_like(picture if a else picture.swapaxes(0, 1))
    for down, right in np.ndindex(stored.shape[:2]):
        seen_right, seen_down = right * a + down * c, right * b + down * d
        stored[down, right] = picture[seen_down - (-1 in (b, d)), seen_right - (-1 in (a, c))]  # -1 is the last one
    return stored


@pytest.mark.parametrize("orientation", MATRICES)
def test_a_matrix_and_exif_mean_the_same(orientation: int) -> None:
    assert orientation_of(nine(*MATRICES[orientation])) == orientation
    assert apart(upright(stored_for(orientation), orientation), corners()) == 0


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("orientation", MATRICES)
def test_turned_and_mirrored_video_comes_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    path = write_still_clip(tmp_path / f"a.{kind}", stored_for(orientation), matrix=nine(*MATRICES[orientation]))
    assert apart(first_picture(path), corners()) < 12


def test_odd_matrices_stand_for_the_nearest_orientation() -> None:
    cos, sin = np.cos(0.3), np.sin(0.3)
    assert orientation_of(nine(cos, sin, -sin, cos)) == 1
    assert orientation_of(nine(-2, 0, 0, 2)) == 2
    assert orientation_of(nine(-sin, cos, -cos, -sin)) == 6
    assert orientation_of(nine(0.5, 0.5, -0.5, 0.5)) == 1
    assert orientation_of((0,) * 9) == 1


@pytest.mark.parametrize(
    ("aspect", "size"), [((4, 3), (64, 32)), ((2, 3), (48, 48)), ((1, 1), (48, 32)), ((99, 1), (48, 32))]
)
def test_pixels_that_are_not_square_are_made_so(aspect: tuple[int, int], size: tuple[int, int], tmp_path: Path) -> None:
    path = write_still_clip(tmp_path / "a.mp4", corners(), sample_aspect_ratio=Fraction(*aspect))
    assert apart(first_picture(path), corners(*size)) < 12


def test_a_stretched_picture_may_be_turned_too(tmp_path: Path) -> None:
    turned = write_still_clip(
        tmp_path / "a.mp4", stored_for(6), matrix=nine(*MATRICES[6]), sample_aspect_ratio=Fraction(4, 3)
    )
    assert apart(first_picture(turned), corners(48, 43)) < 14


@pytest.mark.parametrize(("codec", "pixel_format"), [("png", "rgba"), ("prores_ks", "yuva444p10le")])
def test_hidden_colours_of_a_video_are_not_shown(codec: str, pixel_format: str, tmp_path: Path) -> None:
    stored = np.dstack([corners(), np.full((32, 48), 255, np.uint8)])
    stored[8:24, 12:36] = (255, 0, 0, 0)
    path = write_still_clip(tmp_path / "a.mov", stored, codec=codec, pixel_format=pixel_format)
    expected = corners()
    expected[8:24, 12:36] = 255
    assert apart(first_picture(path), expected) < 12
