from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from streamvlm.ingest.sampling import MAX_GAP_S, TICK_S, StreamClock, sample

rates = st.floats(0.01, 1000)
gaps_s = st.lists(st.floats(2 * TICK_S, 30), max_size=60)


def growing(gaps: list[float]) -> list[float]:
    return list(itertools.accumulate(gaps, initial=0.0))


def kept(times_s: list[float], fps: float) -> list[int]:
    return [i for _, i in sample(zip(times_s, itertools.count(), strict=False), fps)]


@given(gaps_s, rates)
def test_each_slot_gets_at_most_one_frame_and_no_frame_is_taken_twice(gaps: list[float], fps: float) -> None:
    times_s = growing(gaps)
    slots = [math.floor(times_s[i] * fps + min(TICK_S * fps, 0.5)) for i in kept(times_s, fps)]
    assert all(earlier < later for earlier, later in itertools.pairwise(slots))


@given(gaps_s, rates)
def test_a_frame_is_left_out_only_if_its_slot_had_an_earlier_one(gaps: list[float], fps: float) -> None:
    times_s = growing(gaps)
    taken = kept(times_s, fps)
    assert taken[0] == 0
    for i in set(range(len(times_s))) - set(taken):
        before = max(j for j in taken if j < i)
        assert times_s[i] - times_s[before] < 1 / fps + TICK_S


@given(st.integers(1, 1000), st.integers(1, 300), st.integers(0, 999))
def test_sampling_at_the_rate_of_a_source_keeps_every_frame_whatever_milliseconds_it_was_rounded_to(
    fps: int, n_frames: int, start_ms: int
) -> None:
    pts_ms = [start_ms + round(1000 * i / fps) for i in range(n_frames)]
    times_s = [(ms - pts_ms[0]) / 1000 for ms in pts_ms]
    assert len(kept(times_s, fps)) == n_frames


def test_the_first_frame_at_or_after_each_slot_is_taken() -> None:
    times_s = [0, 0.1, 0.9, 1.0, 1.4, 3.5, 3.9, 4.2, 9.0]
    assert kept(times_s, fps=1) == [0, 3, 5, 7, 8]
    assert kept(times_s, fps=0.5) == [0, 5, 7, 8]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60), st.floats(0.1, 240))
def test_stream_time_starts_at_zero_and_grows_whatever_the_timestamps(pts_s: list[float | None], rate: float) -> None:
    clock = StreamClock(rate)
    times_s = [clock(pts) for pts in pts_s]
    assert times_s[:1] in ([], [0])
    for earlier, later in itertools.pairwise(times_s):
        assert earlier < later <= earlier + MAX_GAP_S


def test_the_clock_keeps_real_gaps() -> None:
    clock = StreamClock(10)
    assert [clock(pts) for pts in (5.0, 5.5, 65.5)] == [0, 0.5, 60.5]


def test_the_clock_counts_on_from_a_jump_and_over_missing_times() -> None:
    clock = StreamClock(4)
    wrap_s = 2**33 / 90000
    assert [clock(pts) for pts in (1.0, None, 1.5, 0.5, 1.0, wrap_s, wrap_s + 2)] == [
        *(0, 0.25, 0.5),
        *(0.75, 1.25),  # a step back: the next recording begins
        *(1.5, 3.5),  # a leap of a day
    ]
