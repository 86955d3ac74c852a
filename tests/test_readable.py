from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.cli.units import parse_bytes
from streamvlm.readable import TICK_S, clock, size, whole_seconds


@given(st.integers(1, 10**6), st.floats(0, TICK_S))
def test_a_time_a_tick_or_less_before_a_whole_second_is_told_as_it(second: int, early_s: float) -> None:
    assert whole_seconds(second - early_s) == second


@given(st.integers(0, 10**6), st.floats(0, 1 - 2 * TICK_S))
def test_any_other_time_is_told_by_the_seconds_that_have_passed(second: int, later_s: float) -> None:
    assert whole_seconds(second + later_s) == second


@pytest.mark.parametrize(
    ("time_s", "told"), [(0, "0:00:00"), (59.998, "0:00:59"), (60 - 1 / 90_000, "0:01:00"), (3723.5, "1:02:03")]
)
def test_a_clock_tells_hours_minutes_and_seconds(time_s: float, told: str) -> None:
    assert clock(time_s) == told


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [
        (0, "0B"), (1000, "1000B"), (1024, "1KiB"), (10_000, "9.8KiB"), (48 << 20, "48MiB"), ((1 << 30) - 1, "1024MiB"),
        (64 << 30, "64GiB"), (3 << 50, "3072TiB"),
    ],
)  # fmt: skip
def test_a_size_is_told_as_options_take_it(n_bytes: int, told: str) -> None:
    assert size(n_bytes) == told
    assert told.startswith("9.8") or abs(parse_bytes(told) - n_bytes) <= 1
