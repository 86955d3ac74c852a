"""The photo set: what is composed, and what is said when its packages are missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamvlm.errors import SourceError
from streamvlm.frame import Picture
from streamvlm.models.families.pocket.words import vocabulary
from streamvlm.world.photos import (
    PhotoCase,
    compose_photo,
    load_photo_set,
    photo_words,
    read_cutout,
)

INSTALLED_STAMPS = Path("/usr/share/tuxpaint/stamps")
INSTALLED_BACKGROUNDS = Path("/usr/share/backgrounds/gnome")
BLUE = np.full((90, 120, 3), (0, 0, 255), np.uint8)


def opaque_red(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 4), (255, 0, 0, 255), np.uint8)


def red_box(picture: Picture) -> tuple[int, int]:
    """Height and width of what is red in it."""
    *_, width, height = cv2.boundingRect((picture[..., 0] > 128).astype(np.uint8))
    return height, width


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stamps")
    red_in_bgra = np.zeros((12, 10, 4), np.uint8)
    red_in_bgra[3:9, 2:8] = (0, 0, 255, 255)
    for name in photo_words():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), red_in_bgra)
    return root


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("backgrounds")
    cv2.imwrite(str(root / "adwaita-l.webp"), np.full((30, 40, 3), (255, 0, 0), np.uint8))
    return root


@pytest.fixture(scope="module")
def cases(stamps: Path, backgrounds: Path) -> list[PhotoCase]:
    return load_photo_set(stamps, backgrounds, seed=0)


def test_at_least_ninety_cut_outs_are_listed_and_their_words_can_be_said() -> None:
    words = photo_words()
    assert len(words) >= 90
    assert set().union(*words.values()) <= set(vocabulary())


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_out_fills_most_of_the_height_of_the_frame(seed: int) -> None:
    picture = compose_photo(opaque_red(40, 20), BLUE, np.random.default_rng(seed))
    assert picture.shape == (240, 320, 3)
    assert picture.dtype == np.uint8
    height, width = red_box(picture)
    assert 0.60 * 240 - 1 <= height <= 0.85 * 240 + 1
    assert abs(width - height / 2) <= 1


def test_a_cut_out_too_wide_for_that_keeps_its_shape_and_stays_whole() -> None:
    picture = compose_photo(opaque_red(10, 40), BLUE, np.random.default_rng(0), size=(64, 48))
    assert red_box(picture) == (16, 64)


def test_the_hidden_colour_of_transparent_pixels_does_not_bleed_into_the_outline() -> None:
    cutout = np.full((60, 60, 4), (255, 255, 255, 0), np.uint8)
    cutout[10:50, 10:50] = (0, 0, 0, 255)
    picture = compose_photo(cutout, np.zeros_like(BLUE), np.random.default_rng(1))
    assert not picture.any()


def test_a_cut_out_is_read_as_rgba_and_trimmed_to_what_is_visible(stamps: Path) -> None:
    cutout = read_cutout(stamps / next(iter(photo_words())))
    assert cutout.shape == (6, 6, 4)
    assert (cutout == (255, 0, 0, 255)).all()


def test_the_set_shows_every_listed_cut_out_before_a_backdrop(cases: list[PhotoCase]) -> None:
    assert {case.name: case.words for case in cases} == photo_words()
    for case in cases:
        height, width = red_box(case.picture)
        assert height == width >= 0.6 * 240 - 1, case.name
        assert (case.picture[..., 2] > 128).any(), case.name


def test_the_same_seed_gives_the_same_pictures(cases: list[PhotoCase], stamps: Path, backgrounds: Path) -> None:
    again = load_photo_set(stamps, backgrounds, seed=0)
    assert all((one.picture == two.picture).all() for one, two in zip(cases, again, strict=True))


def test_another_seed_gives_other_pictures(cases: list[PhotoCase], stamps: Path, backgrounds: Path) -> None:
    others = load_photo_set(stamps, backgrounds, seed=1)
    assert all((one.picture != two.picture).any() for one, two in zip(cases, others, strict=True))


def test_a_missing_stamps_folder_is_reported_with_the_package_that_has_it(backgrounds: Path) -> None:
    with pytest.raises(SourceError, match=r"/nowhere.*tuxpaint-stamps-default"):
        load_photo_set(Path("/nowhere"), backgrounds, seed=0)


def test_a_missing_wallpapers_folder_is_reported_with_the_package_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"/nowhere.*gnome-backgrounds"):
        load_photo_set(tmp_path, Path("/nowhere"), seed=0)


def test_a_folder_without_wallpapers_is_reported_too(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gnome-backgrounds"):
        load_photo_set(tmp_path, tmp_path, seed=0)


def test_a_listed_cut_out_that_is_missing_is_named(tmp_path: Path, backgrounds: Path) -> None:
    with pytest.raises(SourceError, match=f"{next(iter(photo_words()))}.*tuxpaint-stamps-default"):
        load_photo_set(tmp_path, backgrounds, seed=0)


@pytest.mark.skipif(
    not (INSTALLED_STAMPS.is_dir() and INSTALLED_BACKGROUNDS.is_dir()),
    reason="the Debian packages tuxpaint-stamps-default and gnome-backgrounds are not installed",
)
def test_every_listed_cut_out_is_in_the_debian_package() -> None:
    cases = load_photo_set(INSTALLED_STAMPS, INSTALLED_BACKGROUNDS, seed=0)
    assert len(cases) == len(photo_words())
    assert all(case.picture.std() > 0 for case in cases)
