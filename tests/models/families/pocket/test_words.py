"""The everyday words: their order, their form, and how posteriors are grouped into them."""

from __future__ import annotations

import re

import pytest
import torch

from streamvlm.models.families.pocket.words import everyday_words, group_matrix, vocabulary

# Colours, shapes and places are words of their own in the questions and answers of the synthetic world.
TAKEN = {
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "black"),
    *("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring", "moon", "arrow"),
    *("top", "bottom", "left", "right", "centre"),
    *("forest", "sea", "desert", "snow", "city", "night", "meadow", "wall"),
}

# Classes spread over the whole list; one line lost or doubled anywhere moves those behind it.
ANCHORS = {
    0: "fish",  # tench
    7: "rooster",
    99: "goose",
    145: "penguin",  # king penguin
    151: "dog",  # Chihuahua, the first of 118 breeds
    268: "dog",  # Mexican hairless, the last
    269: "wolf",
    281: "cat",  # tabby
    291: "lion",
    340: "zebra",
    386: "elephant",
    404: "airplane",
    444: "bicycle",  # tandem bicycle
    487: "phone",
    508: "keyboard",
    559: "chair",
    612: "rickshaw",
    621: "lawn-mower",
    701: "parachute",
    737: "bottle",  # pop bottle
    779: "bus",
    817: "car",
    852: "tennis-ball",
    906: "tie",
    950: "citrus",  # orange is a colour
    954: "banana",
    963: "pizza",
    985: "daisy",
    999: "toilet-paper",
}


def test_every_class_has_one_lower_case_word() -> None:
    words = everyday_words()
    assert len(words) == 1000
    assert not [word for word in words if not re.fullmatch(r"[a-z]+(-[a-z]+)*", word)]


@pytest.mark.parametrize(("class_index", "word"), ANCHORS.items())
def test_words_stand_in_the_order_of_the_classes(class_index: int, word: str) -> None:
    assert everyday_words()[class_index] == word


def test_no_word_is_a_colour_a_shape_or_a_place() -> None:
    assert not set(vocabulary()) & TAKEN


def test_the_vocabulary_is_sorted_and_without_repeats() -> None:
    assert list(vocabulary()) == sorted(set(everyday_words()))


def test_grouping_gives_each_word_the_probability_of_all_its_classes() -> None:
    posteriors = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)).softmax(-1)
    grouped = posteriors @ group_matrix()
    assert grouped.dtype == torch.float32
    torch.testing.assert_close(grouped.sum(-1), torch.ones(3))
    foxes = posteriors[:, 277:281].sum(-1)  # red, kit, Arctic and grey fox
    torch.testing.assert_close(grouped[:, vocabulary().index("fox")], foxes)
