"""Draws the staircase: every room on its step, and the rooms below from which it imports.

    python docs/staircase.py > docs/staircase.svg

Steps are those of the contract in pyproject.toml, imports those of the code. A dot to the right of a room
stands above the room that is imported; an import that went up would have its dot to the left.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import grimp

from streamvlm_demos.svg import Svg

ROOT = Path(__file__).parents[1]

_LEFT, _TOP, _CELL_PX = 150, 40, (33, 27)

_STYLE = """
.panel { fill: #ffffff } .step { fill: #ddf4ff } .line { stroke: #d1d9e0 } .import { fill: #0969da }
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .room { text-anchor: end; font-weight: 600 }
.caption { fill: #59636e }
"""
_DARK = """
.panel { fill: #0d1117 } .step { fill: #132339 } .line { stroke: #3d444d } .import { fill: #1f6feb }
text { fill: #f0f6fc } .caption { fill: #9198a1 }
"""


def read_contract() -> tuple[list[str], list[list[str]]]:
    """Returns the root packages, and the rooms of each step that import-linter holds, the topmost first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = settings["contracts"][0]["layers"]
    return settings["root_packages"], [[room.strip(" ()") for room in layer.split("|")] for layer in layers]


def find_imports(rooms: list[str], graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Returns the pairs of a room and another that it imports from."""
    members = {room: {room, *graph.find_descendants(room)} for room in rooms}
    room_of = {module: room for room, modules in members.items() for module in modules}
    return {
        (room_of[module], room_of[imported])
        for module in room_of
        for imported in graph.find_modules_directly_imported_by(module)
        if imported in room_of and room_of[imported] != room_of[module]
    }


def draw() -> str:
    """Returns the staircase as SVG."""
    packages, steps = read_contract()
    rooms = [room for step in steps for room in step]
    imports = find_imports(rooms, grimp.build_graph(*packages, cache_dir=None))
    right, bottom = _LEFT + _CELL_PX[0] * len(rooms), _TOP + _CELL_PX[1] * len(rooms)
    svg = Svg(right + 16, bottom + 12, "The rooms of StreamVLM and the imports between them", _STYLE, _DARK)
    svg.add("text", "caption", "A dot to the right of a room stands above a room that it imports from.", x=_LEFT, y=24)
    for step in steps:
        _draw_step(svg, rooms.index(step[0]), len(step), right)
    for row, room in enumerate(rooms):
        _draw_line_down(svg, row, [rooms.index(above) for above, imported in imports if imported == room])
    for row, room in enumerate(rooms):
        x, y = _place(row, row)
        svg.add("text", "room", room.removeprefix("streamvlm."), x=x + 8, y=y + 4)
    for room, imported in sorted(imports):
        x, y = _place(rooms.index(imported), rooms.index(room))
        svg.add("circle", "import", cx=x, cy=y, r=6)
    return str(svg)


def _place(column: int, row: int) -> tuple[float, float]:
    """Returns the middle of a cell."""
    return _LEFT + _CELL_PX[0] * (column + 0.5), _TOP + _CELL_PX[1] * (row + 0.5)


def _draw_step(svg: Svg, first: int, n_rooms: int, right: float) -> None:
    x, y = _place(first, first)
    width, height = _CELL_PX[0] * n_rooms, _CELL_PX[1] * n_rooms
    svg.add("rect", "step", x=x - _CELL_PX[0] / 2, y=y - _CELL_PX[1] / 2, width=width, height=height)
    svg.add("line", "line", x1=8, x2=right, y1=y + height - _CELL_PX[1] / 2, y2=y + height - _CELL_PX[1] / 2)


def _draw_line_down(svg: Svg, row: int, importing: list[int]) -> None:
    """Draws a line to a room from the topmost of those that import it."""
    x, y = _place(row, row)
    svg.add("line", "line", x1=x, x2=x, y1=_place(0, min(importing, default=row))[1], y2=y)


if __name__ == "__main__":
    sys.stdout.write(draw())
