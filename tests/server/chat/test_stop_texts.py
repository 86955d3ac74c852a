"""Stop texts cut an answer wherever its pieces fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_server.chat.stop_texts import StopCutter


def cut_letter_by_letter(text: str, stops: list[str]) -> str:
    """The plain reference: the shortest beginning that ends in a stop text, without the longest such."""
    for end in range(1, len(text) + 1):
        if ending := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, ending))]
    return text


@given(
    pieces=st.lists(st.text("abc", max_size=5), max_size=8),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
)
def test_what_passes_is_the_text_up_to_the_stop_however_it_is_split(pieces: list[str], stops: list[str]) -> None:
    cutter = StopCutter(stops)
    passed = "".join(map(cutter.feed, pieces)) + cutter.finish()
    whole = "".join(pieces)
    assert passed == cut_letter_by_letter(whole, stops)
    assert cutter.is_cut == any(stop in whole for stop in stops)


def test_only_what_may_begin_a_stop_is_held_back() -> None:
    cutter = StopCutter(["\n\n"])
    assert [cutter.feed(piece) for piece in ("a re", "d\n", "circle\n", "\nmore", "x")] == [
        "a re",
        "d",
        "\ncircle",
        "",
        "",
    ]
    assert cutter.is_cut


@pytest.mark.parametrize("stops", [[], ["never"]])
def test_without_a_stop_everything_passes(stops: list[str]) -> None:
    cutter = StopCutter(stops)
    assert cutter.feed("a nev") + cutter.feed("") + cutter.finish() == "a nev"
