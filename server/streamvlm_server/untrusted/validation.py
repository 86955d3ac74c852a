"""The first mistake in a body or an event, in words that name its place and what is accepted there."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError


def first_fault(error: ValidationError, *, known: str) -> tuple[str | None, str]:
    """Returns the place of the first mistake, None for the whole, and the mistake.

    Args:
        error: Error of a pydantic model.
        known: Says which fields there are, in case the mistake is an unknown one.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    says = f"there is no such field; {known}" if first["type"] == "extra_forbidden" else first["msg"]
    return _path(first["loc"]), says


def _path(places: Sequence[int | str]) -> str | None:
    """Returns a place as its sender would write it: without the kind of a part, which pydantic puts in."""
    shown = [
        str(place)
        for before, index, place in zip(["", "", *places], ["", *places], places, strict=False)
        if not (before == "content" and isinstance(index, int))
    ]
    return ".".join(shown) or None
