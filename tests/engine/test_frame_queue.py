"""The queue of frames that wait: bounded, in order, the latest win, and what is to be kept is kept."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.engine.frame_queue import FrameQueue
from streamvlm.frame import Frame

acts = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.floats(0.01, 5), st.integers(1, 3), st.booleans()),
        st.tuples(st.sampled_from(("promise", "keep_promises")), st.floats(0, 60)),
        st.tuples(st.just("take"), st.integers(1, 5), st.floats(0, 60), st.floats(0, 6)),
    ),
    max_size=60,
)


@given(st.integers(1, 5), st.integers(1, 12), acts)
def test_it_holds_the_newest_and_what_is_kept_or_was_promised_in_order(
    capacity: int, most_px: int, todo: list[tuple[object, ...]]
) -> None:
    queue, time_s, promised_s = FrameQueue(capacity, None, 3 * most_px), 0.0, -math.inf
    held: list[float] = []
    kept: set[float] = set()
    px: dict[float, int] = {}
    n_taken = n_offered = 0

    def droppable(held: list[float]) -> list[float]:
        return [t for t in held if t not in kept and t > promised_s]

    def trimmed(held: list[float]) -> list[float]:
        while (may_go := droppable(held)) and (
            len(may_go) > capacity or (len(may_go) > 1 and sum(px[t] for t in held[:-1]) >= most_px)
        ):
            held = [t for t in held if t != may_go[0]]
        return held

    for act in todo:
        match act:
            case ("offer", float(elapsed_s), int(width), bool(keep)):
                time_s += elapsed_s
                px[time_s] = width
                assert queue.has_room == (len(held) < capacity and sum(px[t] for t in held) < most_px)
                if not keep and time_s > promised_s:
                    assert queue.is_full == (len(trimmed([*held, time_s])) <= len(held))
                queue.offer(Frame(n_offered, time_s, np.zeros((1, width, 3), np.uint8)), 0.0, keep=keep)
                kept |= {time_s} if keep else set()
                held = trimmed([*held, time_s])
                n_offered += 1
                assert queue.newest_s == time_s
            case ("promise", float(until_s)):
                queue.promise(until_s)
                promised_s = max(promised_s, until_s)
            case ("keep_promises", float(until_s)):
                queue.keep_promises(until_s)
                promised_s = min(promised_s, until_s)
                held = trimmed(held)
            case ("take", int(most), float(until_s), float(within_s)):
                assert queue.holds(until_s) == any(t <= until_s for t in held)
                got = [one.frame.time_s for one in queue.take(most, until_s, within_s)]
                assert got == [t for t in held if t <= until_s and t - held[0] <= within_s][:most]
                n_taken += len(got)
                held = held[len(got) :]
        assert len(queue) == len(held)
        assert queue.n_offered == n_offered
        assert queue.n_dropped == n_offered - n_taken - len(queue)
    queue.clear()
    assert len(queue) == 0
    assert queue.n_dropped == n_offered - n_taken


def frame(time_s: float) -> Frame:
    return Frame(0, time_s, np.zeros((1, 1, 3), np.uint8))


def test_whoever_waits_for_room_is_told_once_as_soon_as_there_is_some() -> None:
    queue, told = FrameQueue(2, None), []
    queue.when_room(lambda: told.append("at once"))
    for time_s in (1.0, 2.0):
        queue.offer(frame(time_s), 0.0, keep=True)
    for name in ("first", "second"):
        queue.when_room(lambda name=name: told.append(name))  # type: ignore[misc]
    assert told == ["at once"]
    queue.take(1)
    queue.take(1)
    assert told == ["at once", "first", "second"]
    for time_s in (3.0, 4.0):
        queue.offer(frame(time_s), 0.0, keep=True)
    queue.when_room(lambda: told.append("at the end"))
    queue.clear()
    assert told[3:] == ["at the end"]


def test_what_comes_as_fast_as_it_will_pushes_nothing_out_that_is_kept() -> None:
    queue = FrameQueue(3, None)
    for second in range(40):
        queue.offer(frame(float(second)), 0.0, keep=second % 10 == 0)
    assert [one.frame.time_s for one in queue.take(99)] == [0, 10, 20, 30, 37, 38, 39]
