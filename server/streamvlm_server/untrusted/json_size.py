"""Finds JSON that would take long to parse, before it is parsed.

A parser holds the interpreter's lock until it is done, so a thread does not help: eleven megabytes of brackets would
stop the server for five seconds. Large messages with a good reason are one long string, which takes milliseconds.
"""

from __future__ import annotations

from typing import AnyStr

MAX_MARKS = 20_000
"""Most commas, opening brackets or braces; no question has so many, and they are parsed in 20 ms."""


def is_costly_to_parse(message: AnyStr) -> bool:
    """Whether a JSON text has more than ``MAX_MARKS`` commas, or brackets, or braces, those in its strings included.

    A text of no more characters has not, and need not be asked about.
    """
    marks: tuple[AnyStr, ...] = (",", "[", "{") if isinstance(message, str) else (b",", b"[", b"{")
    return any(_occurs(message, mark) for mark in marks)


def _occurs(message: AnyStr, mark: AnyStr) -> bool:
    place = -1  # searches pass over a long string ten times faster than counting
    for _ in range(MAX_MARKS + 1):
        place = message.find(mark, place + 1)
        if place < 0:
            return False
    return True
