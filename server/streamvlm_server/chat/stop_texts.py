"""Cuts an answer that comes in pieces at a stop text."""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Passes text on up to the stop text that is complete first, and holds back what may be the beginning of one.

    Args:
        stops: Texts that end an answer and are not part of it; without any, all text passes.

    Attributes:
        is_cut: Whether a stop text has come; no text passes after it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_cut = False

    def feed(self, piece: str) -> str:
        """Takes the next piece and returns the text that can be sent."""
        if self.is_cut:
            return ""
        text = self._held + piece
        # The stop text that is complete first counts, as if the text came letter by letter.
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.is_cut, self._held = True, ""
            return text[: min(found)[1]]
        n_held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def finish(self) -> str:
        """Returns the text that was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Returns the length of the longest end of ``text`` that is a beginning of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
