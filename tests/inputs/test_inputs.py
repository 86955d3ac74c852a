"""Every kind of input at every door: a cell of the table in docs/results/inputs.md is a test here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from doors import Doors, Heard, Input, Told, TurnedAway
from kinds import table
from kinds.every import KINDS
from kinds.kind import NOW, Kind, Outcome, Refused
from kinds.larder import Larder
from web_site import Site


@pytest.mark.parametrize(("name", "door"), table.places(), ids=["-".join(place) for place in table.places()])
def test_cell(
    name: str, door: str, larder: Larder, site: Site, doors: Doors, came: dict[tuple[str, str], table.Cell]
) -> None:
    kind = KINDS[name]
    path = larder.folder_with(kind) if door == "folder" else larder.path(kind, is_fast=door == "watch")
    address = larder.address(kind, path, site.host)
    brought = Input(path if kind.serve is None else None, address, kind.url, kind.flags)
    told = doors.bring(brought, door, questions_at(kind, door))
    came[name, door] = judged(as_told_elsewhere(told, path, address), kind.at(door))


def questions_at(kind: Kind, door: str) -> list[str]:
    """What is asked: all questions, or at most one where the clip is shown faster."""
    expected = kind.at(door)
    if isinstance(expected, Refused):
        return [NOW]
    return [*expected.answers][:1] if door == "watch" else [*expected.answers]


def as_told_elsewhere(told: Told, path: Path, address: str) -> Told:
    """The same without what is so on this machine and at this time only."""

    def plain(said: str) -> str:
        named = said.replace(address, path.name).replace(str(path), path.name).replace("streamvlm: ", "")
        return re.sub(r"\(\d\d:\d\d:\d\d\)", "(HH:MM:SS)", named)

    if isinstance(told, TurnedAway):
        return replace(told, sentence=plain(told.sentence))
    return replace(told, said=plain(told.said))


def judged(told: Told, expected: Outcome) -> table.Cell:
    """The cell, if it is what has to come of it."""
    if isinstance(expected, Refused):
        assert isinstance(told, TurnedAway), told
        assert re.search(expected.says, told.sentence), told
        assert told.code is None or re.fullmatch(expected.code, told.code), told
        return table.Cell("refused", told.sentence)
    assert isinstance(told, Heard), told
    assert all(re.fullmatch(expected.answers[question], text) for question, text in told.answers.items()), told
    first_s, last_s = expected.ends_s
    assert told.ended_s is None or first_s <= told.ended_s <= last_s, told
    return table.Cell("right", warning(told, expected.warns) if expected.warns else "")


def warning(told: Heard, warns: str) -> str:
    """The sentence that holds it, or itself where it is no sentence."""
    found = re.search(rf'[^"\n]*(?:{warns})[^"\n]*\.(?=["\n])', told.said) or re.search(warns, told.said)
    assert found, told
    return found[0]


def test_the_table_has_every_cell_and_says_in_it_what_has_to_come_of_it(committed: str) -> None:
    cells = table.read(committed)
    assert set(cells) == set(table.places())
    assert [place for place, cell in cells.items() if not table.is_expected(*place, cell)] == []


def test_the_table_is_as_it_was_written_and_has_sixty_kinds_or_more(committed: str) -> None:
    assert table.render(table.read(committed)) == committed
    assert len(KINDS) >= 60
