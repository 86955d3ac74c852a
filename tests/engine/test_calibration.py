"""Retrieval heads are shipped, remembered or found, and what is found really retrieves."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamvlm.engine import calibration
from streamvlm.engine.calibration import calibrate, heads_of, save_heads
from streamvlm.models.base import VideoLanguageModel
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
    """Pocket without its shipped heads."""

    def __init__(self, model: VideoLanguageModel) -> None:
        self._model = model
        self.retrieval_heads = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def test_kept_heads_are_read_back_and_not_calibrated_again(pocket: VideoLanguageModel, cache: Path) -> None:
    model: VideoLanguageModel = Unshipped(pocket)  # type: ignore[assignment]
    path = save_heads(model, [RetrievalHead(1, 4)])
    assert path is not None
    assert path.is_relative_to(cache)
    assert heads_of(model) == (RetrievalHead(1, 4),)


def test_a_cache_that_cannot_be_written_is_no_error(
    pocket: VideoLanguageModel, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (cache / "streamvlm").write_text("in the way")
    assert save_heads(pocket, [RetrievalHead(1, 4)]) is None
    assert "not kept" in caplog.text
