"""The table in docs/results/inputs.md: made of what came of every kind at every door, and read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kinds.every import GROUPS, KINDS
from kinds.kind import Refused

DOORS = {
    "file": "file",
    "folder": "folder",
    "http": "HTTP",
    "image_url": "`image_url`",
    "video_url": "`video_url`",
    "image_url as a string": "`image_url`, a string",
    "image_url by URL": "`image_url` by HTTP",
    "video_url by URL": "`video_url` by HTTP",
    "realtime": "realtime",
    "source": "server source",
    "watch": "`watch`",
}
"""What each door is called."""

_ABOUT = """\
# Inputs

What comes of {n_kinds} kinds of input at the doors through which they come, {n_cells} cells; each is a test
(`pytest tests/inputs`). `make inputs` makes the inputs, runs the tests and writes this file.

All inputs are made from one clip of 12 seconds: a purple square in the top-left, from 4 s on a red circle in the
bottom-right, from 8 s on a blue star in the top-right; pictures show the star. Pocket is asked what is there now, and
when the circle appeared or where the star is.

| door | is |
|---|---|
| file, folder, HTTP | `streamvlm ask` |
| `image_url`, `video_url` | `POST /v1/chat/completions`: data URLs, or fetched by HTTP |
| realtime | `input_image` of an item, over `/v1/realtime` |
| server source | `streamvlm.source.open`: the server reads it by HTTP |
| `watch` | `streamvlm watch`, which sends it to a server |

A number says which sentence was told: why it was refused, or what was warned of. No cell: what does not come through
that door, or is tried at the one beside it.
"""


@dataclass(frozen=True)
class Cell:
    """What came of a kind at a door: right or refused, and the sentence that was told, if any."""

    state: str
    sentence: str = ""


Cells = Mapping[tuple[str, str], Cell]


def render(cells: Cells) -> str:
    """The file."""
    sentences = list(dict.fromkeys(cells[place].sentence for place in places() if cells[place].sentence))
    numbers = {sentence: number for number, sentence in enumerate(sentences, 1)}
    parts = [_ABOUT.format(n_kinds=len(KINDS), n_cells=len(cells))]
    for title, kinds in GROUPS.items():
        doors = [door for door in DOORS if any(door in kind.doors for kind in kinds)]
        rows = [f"| kind | is | {' | '.join(DOORS[door] for door in doors)} |", "|---" * (len(doors) + 2) + "|"]
        for kind in kinds:
            shown = [_shown(cells.get((kind.name, door)), numbers) for door in doors]
            rows.append(f"| {kind.name} | {kind.what} | {' | '.join(shown)} |")
        parts.append("\n".join([f"## {title}\n", *rows, ""]))
    told = "\n".join(f"{number}. {sentence}" for sentence, number in numbers.items())
    return "\n".join([*parts, f"## Sentences\n\n{told}\n"])


def read(text: str) -> dict[tuple[str, str], Cell]:
    """The cells of the file."""
    sentences = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    names = {title: door for door, title in DOORS.items()}
    cells: dict[tuple[str, str], Cell] = {}
    doors: list[str] = []
    for line in text.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if row[:2] == ["kind", "is"]:
            doors = [names[title] for title in row[2:]]
        elif row[0] in KINDS and len(row) == len(doors) + 2:
            for door, shown in zip(doors, row[2:], strict=True):
                if shown != "–":
                    state, _, number = shown.partition(" ")
                    cells[row[0], door] = Cell(state, sentences[number] if number else "")
    return cells


def places() -> list[tuple[str, str]]:
    """Every kind and door for which there is a cell."""
    return [(kind.name, door) for kind in KINDS.values() for door in kind.doors]


def is_expected(name: str, door: str, cell: Cell) -> bool:
    """Whether a cell tells what has to come of the kind at that door."""
    expected = KINDS[name].at(door)
    if isinstance(expected, Refused):
        return cell.state == "refused" and re.search(expected.says, cell.sentence) is not None
    return cell.state == "right" and re.search(expected.warns, cell.sentence) is not None


def _shown(cell: Cell | None, numbers: Mapping[str, int]) -> str:
    if cell is None:
        return "–"
    return f"{cell.state} {numbers[cell.sentence]}" if cell.sentence else cell.state
