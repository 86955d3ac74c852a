from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.ingest.clocks import MAX_GAP_S, MAX_LEAP_S, PlaylistClock, StreamClock, TimeSpan
from streamvlm.ingest.sampling import sample
from streamvlm.readable import TICK_S

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


def run(clock: StreamClock, *pts_s: float) -> list[float]:
    return [round(clock(pts), 6) for pts in pts_s]


@given(st.floats(MAX_LEAP_S + 0.1, 1e5), st.floats(0.02, 0.5))
def test_a_leap_in_a_joined_recording_is_closed_and_in_any_other_it_is_a_pause(leap_s: float, gap_s: float) -> None:
    pts_s = [0.0, gap_s, 2 * gap_s, 2 * gap_s + leap_s, 3 * gap_s + leap_s]
    closed = run(StreamClock(1 / gap_s, is_joined=True), *pts_s)
    assert closed == pytest.approx([0, gap_s, 2 * gap_s, 3 * gap_s, 4 * gap_s], abs=1e-5)
    if leap_s <= MAX_GAP_S:
        assert run(StreamClock(1 / gap_s), *pts_s) == pytest.approx(pts_s, abs=1e-5)


def test_the_rhythm_of_a_sparse_recording_is_no_leap() -> None:
    minutes = [60.0 * n for n in range(20)]
    assert run(StreamClock(25, is_joined=True), *minutes) == minutes
    assert run(StreamClock(25, is_joined=True), 0, 9, 18, 50, 59) == [0, 9, 18, 50, 59]  # a gap such as it has
    assert run(StreamClock(25, is_joined=True), 0, 0.04, 9, 9.04) == [0, 0.04, 9, 9.04]


def spans(*lengths_s: float) -> list[TimeSpan]:
    starts = list(itertools.accumulate(lengths_s, initial=0.0))
    return [TimeSpan(start_s, stop_s) for start_s, stop_s in itertools.pairwise(starts)]


def by_playlist(segments: list[TimeSpan], *pts_s: tuple[float, ...]) -> list[float]:
    """Stream times of frames, of which each segment has some."""
    clock = PlaylistClock(segments.__getitem__)
    return [clock(pts, n) for n, one in enumerate(pts_s) for pts in one]


def test_within_a_segment_presentation_times_count() -> None:
    assert by_playlist(spans(4, 4), (10, 10.5, 13), (14, 17)) == [0, 0.5, 3, 4, 7]


@pytest.mark.parametrize("start_s", [3000.0, 77.0, 0.0, 11.0, 17.0, 20.0, -5.0])
def test_a_segment_whose_times_leap_begins_where_the_playlist_puts_it(start_s: float) -> None:
    assert by_playlist(spans(4, 4), (10, 12), (start_s, start_s + 2)) == [0, 2, 4, 6]


def test_frames_that_are_shown_in_another_order_than_sent_do_not_turn_time_back() -> None:
    clock = PlaylistClock(spans(4, 4).__getitem__)
    sent = [(0.0, 0), (2.0, 0), (3.9, 1), (3.95, 0), (4.0, 1)]
    assert [clock(pts, n) for pts, n in sent] == [0, 2, 3.9, 3.95, 4]


@pytest.mark.parametrize("leap_s", [3000.0, -100.0])
def test_a_leap_amid_a_segment_is_closed(leap_s: float) -> None:
    times_s = by_playlist(spans(4, 4), (0, 1, 2 + leap_s, 3 + leap_s), (4 + leap_s, 5 + leap_s))
    assert times_s == [0, 1, 2, 3, 4, 5]


def test_a_segment_that_overlaps_the_one_before_does_not_turn_time_back() -> None:
    times_s = by_playlist(spans(1, 1), (0, 0.5, 1.2), (7, 7.1, 7.5))
    assert times_s == pytest.approx([0, 0.5, 1.2, 1.201, 1.202, 1.5])


@given(st.lists(st.tuples(st.floats(0, 20), st.lists(st.none() | st.floats(-1e5, 1e5), max_size=8)), max_size=8))
def test_a_playlists_clock_grows_and_stays_near_its_segments(told: list[tuple[float, list[float | None]]]) -> None:
    segments = spans(*(length_s for length_s, _ in told))
    clock = PlaylistClock(segments.__getitem__)
    times_s = [(clock(pts, n), n) for n, (_, pts_s) in enumerate(told) for pts in pts_s]
    for (earlier, _), (later, _) in itertools.pairwise(times_s):
        assert earlier < later


def test_whole_seconds_are_whole_wherever_times_begin() -> None:
    clock = StreamClock(1.0)
    assert [clock(1.4 + 0.2 + n) for n in range(300)] == list(range(300))
