"""Pocket behind the adapter interface: what it sees, its tokens, and how a bad checkpoint is refused."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.errors import ModelError, UsageError
from streamvlm.frame import Fidelity
from streamvlm.models.families.pocket import CHECKPOINT
from streamvlm.models.families.pocket.adapter import Pocket
from streamvlm.models.families.pocket.attributes import GROUPS, N_ATTRIBUTES, SPAN
from streamvlm.models.families.pocket.pooling import pool_zones
from streamvlm.models.families.pocket.prompt import spoken
from streamvlm.models.families.pocket.trunk import SIDE_PX, load_trunk, to_pixels
from streamvlm.models.families.pocket.vocabulary import build_tokenizer
from streamvlm.models.registry import load_model
from streamvlm.world.events import SCENES, ZONES, Thing
from streamvlm.world.render import draw_picture


@pytest.fixture(scope="module")
def pocket(device: str) -> Pocket:
    return Pocket(device=torch.device(device), dtype=torch.float32)


def test_sees_what_was_drawn(pocket: Pocket) -> None:
    rng = np.random.default_rng(99)
    for scene in SCENES:
        zone, thing = str(rng.choice(ZONES)), Thing("purple", "star", "7")
        (sight,) = pocket.see([draw_picture(scene, {zone: thing}, rng)])
        row = sight.detail[1 + ZONES.index(zone)]
        seen = {g: GROUPS[g][int(row[SPAN[g]].argmax())] for g in ("colour", "shape", "badge")}
        assert seen == {"colour": "purple", "shape": "star", "badge": "7"}
        assert GROUPS["scene"][int(sight.detail[0, SPAN["scene"]].argmax())] == scene


def test_posteriors_are_distributions(pocket: Pocket) -> None:
    pictures = [np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in ((240, 320, 3), (37, 501, 3))]
    for sight in pocket.see(pictures):
        assert torch.isfinite(sight.feature).all()
        for group in ("colour", "shape", "badge", "zone"):
            torch.testing.assert_close(sight.detail[1:, SPAN[group]].sum(-1).cpu(), torch.ones(9))
        assert float(sight.detail[0, SPAN["word"]].sum()) <= 1 + 1e-5


def test_pictures_seen_together_are_seen_as_they_are_alone(pocket: Pocket) -> None:
    rng = np.random.default_rng(1)
    pictures = [draw_picture(s, {"top": Thing("red", "ring", None)}, rng) for s in SCENES[:3]]
    for alone, together in zip((pocket.see([p])[0] for p in pictures), pocket.see(pictures), strict=True):
        torch.testing.assert_close(alone.detail, together.detail, atol=1e-4, rtol=1e-4)


def test_a_block_is_its_time_and_then_its_visual_tokens(pocket: Pocket) -> None:
    (sight,) = pocket.see([draw_picture("sea", {}, np.random.default_rng(0))])
    clear, fuzzy = (pocket.frame_tokens(sight, 187.9, f).embeddings for f in (Fidelity.CLEAR, Fidelity.FUZZY))
    assert (len(clear), len(fuzzy)) == (3 + 10, 3 + 5)
    tokenizer = build_tokenizer()
    torch.testing.assert_close(clear[:3], pocket.embed(tokenizer.encode("0:03:07", add_special_tokens=False).ids))
    torch.testing.assert_close(clear[:4], fuzzy[:4])


def test_a_frame_a_tick_before_a_whole_second_is_told_as_of_it(pocket: Pocket) -> None:
    (sight,) = pocket.see([draw_picture("sea", {}, np.random.default_rng(0))])
    exact, early = (pocket.frame_tokens(sight, time_s, Fidelity.CLEAR) for time_s in (240, 240 - 1 / 90_000))
    assert torch.equal(early.embeddings, exact.embeddings)


@pytest.mark.parametrize(
    ("words", "spoken"),
    [
        ("yes, at 0:03:07", "yes, at 0:03:07"),
        ("a orange heart", "an orange heart"),
        ("a red circle, a orange one and a hourglass", "a red circle, an orange one and an hourglass"),
        ("a unicycle or a umbrella", "a unicycle or an umbrella"),
        ("a apxz", "an apxz"),  # a word that it spells
        ("apxz", "apxz"),
    ],
)
def test_text_grows_by_appending_clocks_are_joined_and_articles_fit(pocket: Pocket, words: str, spoken: str) -> None:
    ids = build_tokenizer().encode(words, add_special_tokens=False).ids
    texts = [pocket.text(ids[:n]) for n in range(len(ids) + 1)]
    assert texts[-1] == spoken
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


@given(st.lists(st.sampled_from("a an the orange red hourglass unicycle u ##o ##n . 0: 07 <end>".split()), max_size=9))
def test_text_grows_by_appending_whatever_is_said(tokens: list[str]) -> None:
    tokenizer = build_tokenizer()
    ids = [tokenizer.get_vocab()[token] for token in tokens]
    texts = [spoken(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_a_question_may_say_an_or_a(pocket: Pocket) -> None:
    well, badly = (pocket.question_tokens(f"did you see {article} orange heart?") for article in ("an", "a"))
    torch.testing.assert_close(well, badly, rtol=0, atol=0)


def test_badge_and_clock_numbers_are_different_tokens() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer.encode("7 0:07:07", add_special_tokens=False).tokens == ["7", "0:", "07:", "07"]


def test_unknown_words_are_spelt_and_nothing_is_lost_but_strange_signs() -> None:
    tokenizer = build_tokenizer()
    encoded = tokenizer.encode("Where was the Zeppelin?", add_special_tokens=False)
    assert tokenizer.decode(encoded.ids) == "where was the zeppelin?"
    assert tokenizer.encode("🦓 猫", add_special_tokens=False).ids


def test_pooling_keeps_a_thing_in_the_quarters_that_its_zone_touches() -> None:
    zones = np.zeros((9, N_ATTRIBUTES), np.float32)
    zones[:, SPAN["shape"].stop - 1] = 1.0
    zones[2, SPAN["shape"]] = np.eye(len(GROUPS["shape"]), dtype=np.float32)[4]  # a heart at the top right
    shares = pool_zones(zones)[:, SPAN["shape"].start + 4]
    assert shares[1] > 0.9
    assert not shares[[0, 2, 3]].any()


def test_the_trunk_knows_a_photograph(device: str) -> None:
    trunk = load_trunk().to(device)
    pixels = to_pixels([np.zeros((100, 50, 3), np.uint8)]).to(device)
    assert pixels.shape == (1, 3, SIDE_PX, SIDE_PX)
    with torch.inference_mode():
        seen = trunk(pixels)
        shorter = trunk(pixels, upto_coarse=True)
    torch.testing.assert_close(seen.classes.sum(-1).cpu(), torch.ones(1))
    torch.testing.assert_close(seen.coarse, shorter.coarse)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_checkpoint_is_refused_in_a_sentence(missing: str, tmp_path: Path, device: str) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "pocket")
    (tmp_path / "pocket" / missing).unlink()
    with pytest.raises(ModelError, match="pocket"):
        load_model(str(tmp_path / "pocket"), device=device)


def test_a_damaged_or_foreign_checkpoint_is_refused_in_a_sentence(tmp_path: Path, device: str) -> None:
    copy = shutil.copytree(CHECKPOINT, tmp_path / "pocket")
    (copy / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="incomplete or damaged"):
        load_model(str(copy), device=device)
    (copy / "config.json").write_text(json.dumps({"model_type": "parrot"}))
    with pytest.raises(ModelError, match="parrot"):
        load_model(str(copy), device=device)


def test_a_checkpoint_of_another_shape_is_refused_in_a_sentence(tmp_path: Path, device: str) -> None:
    copy = shutil.copytree(CHECKPOINT, tmp_path / "pocket")
    config = json.loads((copy / "config.json").read_text())
    config["decoder"]["num_hidden_layers"] += 1
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="shape"):
        load_model(str(copy), device=device)


@pytest.mark.parametrize("name", ["no/such-model", "", "pocket2"])
def test_a_wrong_name_is_refused_in_a_sentence(name: str, device: str) -> None:
    with pytest.raises(ModelError, match="no model"):
        load_model(name, device=device)


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="device"):
        load_model("pocket", device=name)
