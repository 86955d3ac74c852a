"""What is wrong with a body or an event, in a sentence that names the place and what is taken there."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError


def first_fault(error: ValidationError, *, known: str) -> tuple[str | None, str]:
    """The place of the first thing that is wrong, None for the whole, and what is wrong with it.

    Args:
        error: Of a shape.
        known: Says which fields there are, for one that is not.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    says = f"there is no such field; {known}" if first["type"] == "extra_forbidden" else first["msg"]
    return _path(first["loc"]), says


def _path(places: Sequence[int | str]) -> str | None:
    """A place as its sender would write it: without the part's kind, which pydantic puts in."""
    shown = [
        str(place)
        for before, index, place in zip(["", "", *places], ["", *places], places, strict=False)
        if not (before == "content" and isinstance(index, int))
    ]
    return ".".join(shown) or None
