"""Pocket's prompts: the opening that serves as sinks, timestamps, questions and answers.

Pocket knows one indefinite article, "a"; questions may have "an", and answers get it where it belongs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tokenizers import Tokenizer

from streamvlm.readable import clock, whole_seconds
from streamvlm.world.grammar import takes_an, with_one_article

OPENING = "<start> you look at a video and answer questions ."
N_TIME_TOKENS = 3
"""Of a timestamp: hours, minutes, seconds."""

_CLOCK_S = 100 * 3600  # the vocabulary's hours, after which the clock begins anew


def time_ids(tokenizer: Tokenizer, time_s: float) -> list[int]:
    """Returns the tokens of a block's timestamp, such as ``0:03:07``."""
    return list(tokenizer.encode(clock(whole_seconds(time_s) % _CLOCK_S), add_special_tokens=False).ids)


def question_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """Returns the tokens of a question, up to the beginning of the answer."""
    return list(tokenizer.encode(f"<ask> {with_one_article(question)} <answer>", add_special_tokens=False).ids)


def reply_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Returns the tokens of an answer and its end."""
    return list(tokenizer.encode(f"{with_one_article(answer)} <end>", add_special_tokens=False).ids)


def spoken(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Returns an answer's tokens as text; more ids only append to it, so an article waits for its word.

    A clock's three tokens are written as one time.
    """
    a, an = tokenizer.encode("a an", add_special_tokens=False).ids
    said = [an if one == a and takes_an(tokenizer.id_to_token(after) or "") else one for one, after in pairwise(ids)]
    said += [last for last in ids[-1:] if last != a]
    return re.sub(r"(?<=\d:) (?=\d)", "", tokenizer.decode(said))
