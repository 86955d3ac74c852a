"""English articles: "an" before a vowel that is heard, as in "an hourglass", "a unicycle"."""

from __future__ import annotations

import re

_HEARD_VOWEL = re.compile(r"(?!uni)[aeiou]|hour", re.IGNORECASE)


def takes_an(word: str) -> bool:
    """Whether a word takes "an"."""
    return _HEARD_VOWEL.match(word) is not None


def with_articles(text: str) -> str:
    """Returns a text with "a" and "an" where each belongs."""
    return re.sub(r"\b([Aa])n?(?= (\w+))", lambda found: found[1] + "n" * takes_an(found[2]), text)


def with_one_article(text: str) -> str:
    """Returns a text with "a" in place of every "an"."""
    return re.sub(r"\b([Aa])n\b", r"\1", text)
