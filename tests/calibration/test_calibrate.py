"""Retrieval heads are shipped, remembered or found, and what is found really retrieves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from streamvlm.calibration import calibrate as calibration
from streamvlm.calibration.calibrate import Calibration, calibrate, heads_of, noise_floor_of, save_calibration
from streamvlm.frame import Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.retrieval.heads import RetrievalHead


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_pocket_ships_with_its_heads(pocket: VideoLanguageModel) -> None:
    assert heads_of(pocket) == tuple(RetrievalHead(*pair) for pair in pocket.retrieval_heads or ())


def test_calibration_finds_a_shipped_head_and_it_finds_the_needle(
    pocket: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_N_WORLDS", 1)
    found = calibrate(pocket, seed=3)
    assert found.ranks[0].first >= 0.8
    assert {rank.head for rank in found.ranks[:3]} & set(heads_of(pocket))
    assert set(found.heads) <= {rank.head for rank in found.ranks[:4]}


class Unshipped:
    """Pocket without its shipped heads and noise floor."""

    def __init__(self, model: VideoLanguageModel) -> None:
        self._model = model
        self.retrieval_heads = self.noise_floor = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


@pytest.fixture
def unshipped(pocket: VideoLanguageModel) -> VideoLanguageModel:
    model: VideoLanguageModel = Unshipped(pocket)  # type: ignore[assignment]
    return model


def test_a_kept_calibration_is_read_back_and_not_made_again(unshipped: VideoLanguageModel, cache: Path) -> None:
    path = save_calibration(unshipped, Calibration((), (RetrievalHead(1, 4),), 0.25))
    assert path is not None
    assert path.is_relative_to(cache)
    assert heads_of(unshipped) == (RetrievalHead(1, 4),)
    assert noise_floor_of(unshipped) == 0.25


def test_a_damaged_calibration_is_made_again(unshipped: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_N_WORLDS", 1)
    path = save_calibration(unshipped, Calibration((), (RetrievalHead(1, 4),), 0.25))
    assert path is not None
    path.write_text("[[1, 4]]")
    floor = noise_floor_of(unshipped)
    assert 0 < floor < 0.05
    assert str(floor) in path.read_text()


def test_calibration_makes_do_with_a_few_blocks_when_time_is_up(unshipped: VideoLanguageModel) -> None:
    n_seen: list[int] = []
    see = unshipped.see

    def counted(pictures: Sequence[Picture]) -> list[Sight]:
        n_seen.append(len(pictures))
        return see(pictures)

    unshipped.see = counted  # type: ignore[method-assign]
    found = calibrate(unshipped, most_s=0.0)
    n_stills = calibration._N_MOMENTS * calibration._N_STILLS
    assert sum(n_seen) == calibration._LEAST_BLOCKS + n_stills
    assert found.ranks
    assert found.heads


def test_a_cache_that_cannot_be_written_is_no_error(
    pocket: VideoLanguageModel, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "streamvlm").write_text("in the way")
    assert save_calibration(pocket, Calibration((), (RetrievalHead(1, 4),), 0.25)) is None
    assert "not kept" in caplog.text
