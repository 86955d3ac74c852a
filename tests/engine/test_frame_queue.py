"""The queue of frames that wait: bounded, in order, the latest win, and promises are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.engine.frame_queue import FrameQueue
from streamvlm.frame import Frame

acts = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.floats(0.01, 5), st.integers(1, 3)),
        st.tuples(st.sampled_from(("promise", "keep_promises")), st.floats(0, 60)),
        st.tuples(st.just("take"), st.integers(1, 5), st.floats(0, 60), st.floats(0, 6)),
    ),
    max_size=60,
)


@given(st.integers(1, 5), st.integers(1, 12), acts)
def test_it_holds_the_newest_and_what_was_promised_in_order(
    capacity: int, most_px: int, todo: list[tuple[object, ...]]
) -> None:
    queue, time_s = FrameQueue(capacity, None, 3 * most_px), 0.0
    promised: list[float] = []
    waiting: list[float] = []
    px: dict[float, int] = {}
    n_taken = n_offered = 0

    def trimmed(waiting: list[float]) -> list[float]:
        while len(waiting) > 1 and sum(px[t] for t in (*promised, *waiting[:-1])) >= most_px:
            waiting = waiting[1:]
        return waiting[-capacity:]

    for act in todo:
        all_s = [*promised, *waiting]
        match act:
            case ("offer", float(elapsed_s), int(width)):
                time_s += elapsed_s
                px[time_s] = width
                assert queue.has_room == (len(all_s) < capacity and sum(px[t] for t in all_s) < most_px)
                kept = trimmed([*waiting, time_s])
                assert queue.is_full == (len(kept) <= len(waiting))
                queue.offer(Frame(n_offered, time_s, np.zeros((1, width, 3), np.uint8)), 0.0)
                waiting = kept
                n_offered += 1
                assert queue.newest_s == time_s
            case ("promise", float(until_s)):
                queue.promise(until_s)
                promised += [t for t in waiting if t <= until_s]
                waiting = [t for t in waiting if t > until_s]
            case ("keep_promises", float(until_s)):
                queue.keep_promises(until_s)
                promised = [t for t in promised if t <= until_s]
                waiting = trimmed(all_s[len(promised) :])
            case ("take", int(most), float(until_s), float(within_s)):
                assert queue.holds(until_s) == any(t <= until_s for t in all_s)
                got = [one.frame.time_s for one in queue.take(most, until_s, within_s)]
                expected = [t for t in all_s if t <= until_s and t - all_s[0] <= within_s][:most]
                assert got == expected
                n_taken += len(got)
                promised, waiting = [t for t in promised if t not in got], [t for t in waiting if t not in got]
        assert len(queue) == len(promised) + len(waiting)
        assert queue.n_offered == n_offered
        assert queue.n_dropped == n_offered - n_taken - len(queue)
    queue.clear()
    assert len(queue) == 0
    assert queue.n_dropped == n_offered - n_taken
