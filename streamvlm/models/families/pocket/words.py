"""Everyday names for the 1000 classes of an ImageNet classifier.

ImageNet tells 118 breeds of dog apart; a viewer wants to hear "dog". `everyday_words.txt` holds one word a
line, in the class order of ILSVRC2012: breeds and species collapse to what a child would call the animal,
artefacts keep their common noun. A word names one kind of thing only, so homonyms went to a plainer word (the
bird called crane is a "bird", the machine stays a "crane"), and none is a colour, shape or place word, which
mean something else to the model. Knows nothing of the network that yields the posteriors.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor


@cache
def everyday_words() -> tuple[str, ...]:
    """Returns the everyday word of every ImageNet class: 1000 words in class order, with repeats."""
    return tuple(Path(__file__).with_name("everyday_words.txt").read_text("utf-8").split())


@cache
def vocabulary() -> tuple[str, ...]:
    """Returns the distinct everyday words, sorted."""
    return tuple(sorted(set(everyday_words())))


def group_matrix() -> Tensor:
    """Returns the matrix that sums a class posterior into everyday words.

    Returns:
        (1000, V) float32 with a single 1 in each row; column j belongs to `vocabulary()[j]`.
    """
    column = {word: j for j, word in enumerate(vocabulary())}
    columns = torch.tensor([column[word] for word in everyday_words()])
    return torch.nn.functional.one_hot(columns, len(column)).float()
