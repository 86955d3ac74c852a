"""A drawing as SVG text, whose classes take other colours on a dark page."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring


class Svg:
    """A drawing on a panel of its own.

    Args:
        width: In pixels.
        height: In pixels.
        title: What it shows, for who hears it read.
        style: CSS of its classes.
        dark_style: CSS that takes the place of it on a dark page.
    """

    def __init__(self, width: float, height: float, title: str, style: str, dark_style: str) -> None:
        self._root = Element(
            "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=f"{width}", role="img"
        )
        SubElement(self._root, "title").text = title
        dark = f"@media (prefers-color-scheme: dark) {{ {dark_style.strip()} }}"
        SubElement(self._root, "style").text = f"{style.strip()}\n{dark}"
        self.add("rect", "panel", x=0, y=0, width=width, height=height, rx=8)

    def add(self, shape: str, kind: str, words: str = "", **attributes: str | float) -> None:
        """Adds a shape of one class; numbers are written to a tenth of a pixel."""
        written = {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in attributes.items()}
        SubElement(self._root, shape, {"class": kind, **written}).text = words or None

    def __str__(self) -> str:
        """The file's text, a shape a line."""
        indent(self._root, " ")
        return tostring(self._root, encoding="unicode") + "\n"
