"""Who takes part in a step: fairness, nobody starves, and questions see exactly what was there when they were asked."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from by_hand import ByHand, Heard, ask, offer
from tiny_model import TinyModel

from streamvlm.engine.config import EngineConfig
from streamvlm.engine.live_session import LiveSession, QuestionHandle
from streamvlm.engine.queued_question import Piece, QueuedQuestion
from streamvlm.errors import BusyError, UsageError
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session

N_INTERLEAVINGS = 1000
SHORT = SessionConfig(max_answer_tokens=2, window_blocks=2, host_budget_bytes=1 << 20, chunk_frames=3)
LONG = SessionConfig(max_answer_tokens=60, host_budget_bytes=1 << 20)


def watched_s(live: LiveSession) -> list[float]:
    return [decision.time_s for decision in live.scheduled.session.log]


class Reckoning:
    """One random run over a few sessions, and what every question should have seen."""

    def __init__(self, seed: int, model: TinyModel) -> None:
        self.rng = random.Random(seed)
        self.engine = ByHand(model, EngineConfig(frame_queue=4, max_questions=3, step_frames=4, session=SHORT))
        self.lives = [self.engine.open() for _ in range(self.rng.randint(1, 3))]
        self.asked: list[tuple[LiveSession, QueuedQuestion, QuestionHandle, Heard]] = []
        self.checked: set[QueuedQuestion] = set()
        self.cancelled: set[QueuedQuestion] = set()

    def run(self) -> None:
        for _ in range(self.rng.randint(5, 12)):
            live = self.rng.choice(self.lives)
            self.rng.choice([self.offer, self.ask, self.step, self.step, self.cancel])(live)
        while self.engine.has_work:
            self.step(self.lives[0])

    def offer(self, live: LiveSession) -> None:
        offer(live, self.rng.randint(1, 4))

    def ask(self, live: LiveSession) -> None:
        if live.scheduled.queue.newest_s is None or len(live.scheduled.questions) == 3:
            return
        newest_s = live.scheduled.queue.newest_s
        at_s = self.rng.choice([None, None, self.rng.uniform(0, newest_s)])
        asked, heard = ask(live, at_s=at_s, out_of_band=self.rng.random() < 0.5)
        assert asked.asked_at_s == (newest_s if at_s is None else at_s)
        self.asked.append((live, live.scheduled.questions[-1], asked, heard))

    def cancel(self, live: LiveSession) -> None:
        under_way = [one for one in self.asked if one[1] in one[0].scheduled.questions]
        if under_way:
            _, question, asked, _ = self.rng.choice(under_way)
            asked.cancel()
            self.cancelled.add(question)

    def step(self, live: LiveSession) -> None:
        before_s = [set(watched_s(live)) for live in self.lives]
        self.engine.step()
        for live, question, asked, _ in self.asked:
            if question.scope is not None and question not in self.checked:
                self.checked.add(question)
                # It was begun before this step watched anything: what it could see is what was watched before.
                seen_s = {t for t in before_s[self.lives.index(live)] if t <= asked.asked_at_s}
                scope = question.scope
                assert {block.start_s for block in scope.blocks} <= seen_s
                assert seen_s == {t for t in watched_s(live) if t <= asked.asked_at_s}, "none came too late"
                assert not live.scheduled.queue.holds(asked.asked_at_s)
                if asked.asked_at_s in seen_s and scope.newest is not None:
                    assert scope.newest.decision.time_s == asked.asked_at_s
                if max(before_s[self.lives.index(live)]) > asked.asked_at_s:
                    assert scope.newest is None, "a later frame was shown"


def test_in_a_thousand_interleavings_every_question_sees_exactly_the_frames_up_to_when_it_was_asked(
    device: str,
) -> None:
    model, n_questions = TinyModel(device), 0
    n_cancelled = n_dropped = n_mid_answer = 0
    for seed in range(N_INTERLEAVINGS):
        run = Reckoning(seed, model)
        run.run()
        for live in run.lives:
            stats = live.stats()
            assert stats.n_offered == len(watched_s(live)) + stats.n_dropped
            assert stats.lag_s == stats.n_waiting == stats.n_questions == 0
            assert watched_s(live) == sorted(watched_s(live))
        for _, question, asked, heard in run.asked:
            assert heard.has_ended
            assert all(isinstance(told, Piece) for told in heard[:-1]), "nothing comes after the end"
            if isinstance(heard[-1], UsageError):
                assert question.scope is None, "asked about what was dropped before anything had been watched"
                continue
            assert heard.answer.text == heard.text
            assert heard.answer.asked_at_s == asked.asked_at_s
            assert not heard.answer.cancelled or question in run.cancelled
            assert heard.answer.cancelled or question in run.checked
            assert all(seen.start_s <= asked.asked_at_s for seen in heard.answer.evidence)
            n_mid_answer += heard.answer.cancelled and question.work is not None
        n_questions += len(run.asked)
        n_cancelled += len(run.cancelled)
        n_dropped += sum(live.stats().n_dropped for live in run.lives)
    assert min(n_questions, 3 * n_cancelled, 2 * n_dropped, 50 * n_mid_answer) > N_INTERLEAVINGS / 2, "enough of all"


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_among_others_is_the_answer_of_a_session_alone(seed: int, device: str) -> None:
    engine, rng = ByHand(TinyModel(device), EngineConfig(session=SHORT, frame_queue=100)), random.Random(seed)
    lives = [engine.open() for _ in range(3)]
    asked = []
    for _ in range(12):
        live = rng.choice(lives)
        offer(live, rng.randint(1, 3))
        if rng.random() < 0.4:
            asked.append((live, *ask(live, out_of_band=True)))
        if rng.random() < 0.5:
            engine.step()
    engine.finish()
    for live, question, heard in asked:
        alone = ByHand(TinyModel(device), engine.config)
        single = alone.open()
        offer(single, int(question.asked_at_s) + 1)
        _, expected = ask(single, out_of_band=True)
        alone.finish()
        # Frames came in other chunks, and so encoded with another window: the same blocks, not the same payloads.
        assert heard.answer.memory.n_blocks == expected.answer.memory.n_blocks
        assert [(e.start_s, e.end_s) for e in sorted(heard.answer.evidence, key=lambda e: e.start_s)]
        assert live.stats().n_dropped == 0


def test_frames_are_dealt_out_evenly_and_those_left_out_come_first_the_next_time(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(step_frames=4, session=LONG))
    lives = [engine.open() for _ in range(3)]
    for live, n in zip(lives, (16, 16, 2), strict=True):
        offer(live, n)
    progress = [[len(watched_s(live)) for live in lives]]
    while engine.has_work:
        engine.step()
        if all(live.scheduled.chunk is None for live in lives):
            progress.append([len(watched_s(live)) for live in lives])
    dealt = [[after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(progress)]
    assert all(sum(step) <= 4 for step in dealt)
    assert dealt[0] == [2, 1, 1]
    assert all(abs(a - b) <= 1 for a, b, _ in progress), "two with as many waiting go side by side"
    assert progress[-1] == [16, 16, 2]


def test_more_sessions_than_a_step_has_frames_take_turns(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(step_frames=2, session=LONG))
    lives = [engine.open() for _ in range(5)]
    for live in lives:
        offer(live, 6)
    while engine.has_work:
        engine.step()
        if all(live.scheduled.chunk is None for live in lives):
            counts = [len(watched_s(live)) for live in lives]
            assert max(counts) - min(counts) <= 1


def test_frames_of_several_sessions_are_seen_in_one_vision_call(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=LONG))
    lives = [engine.open() for _ in range(3)]
    for live in lives:
        offer(live, 2)
    engine.finish()
    assert engine.model.looks == [6]


@pytest.mark.parametrize("ingest_every", [1, 3, 6])
def test_while_answers_never_end_frames_are_watched_every_so_many_steps(ingest_every: int, device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(ingest_every=ingest_every, session=LONG))
    talking, other = engine.open(), engine.open()
    offer(talking)
    engine.finish()
    heard = [ask(talking, out_of_band=True)[1] for _ in range(3)]
    looks_at, n_answers_at = [], []
    for step in range(40):
        offer(other)
        n_before = len(engine.model.looks)
        engine.step()
        if len(engine.model.looks) > n_before:
            looks_at.append(step)
        n_answers_at.append(min(len(told) for told in heard))
    assert not any(told.has_ended for told in heard)
    gaps = [after - before for before, after in pairwise(looks_at)]
    assert max(gaps) == max(ingest_every, 2), "a chunk takes two steps: seen, and encoded"
    pieces = [after - before for before, after in pairwise(n_answers_at[3:])]
    assert set(pieces) == {1}, "and every step still says a word"


def test_frames_that_a_question_waits_for_are_watched_at_once_before_anybody_elses(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(step_frames=2, session=LONG))
    busy, talking = engine.open(), engine.open()
    offer(talking)
    engine.finish()
    ask(talking)
    offer(busy, 12)
    engine.step()
    offer(talking, 2)
    _, heard = ask(talking, out_of_band=True)
    engine.step()
    engine.step()
    assert watched_s(talking) == [0, 1, 2]
    engine.step()
    engine.step()
    assert heard.text, "two steps for its frames, and one or two for the probe and the question"


def test_frames_promised_to_a_question_are_not_dropped(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(frame_queue=4, session=LONG))
    live = engine.open()
    offer(live, 6)
    asked, heard = ask(live)
    offer(live, 9)
    assert live.stats().n_dropped == 2 + 5
    engine.finish()
    assert watched_s(live) == [2, 3, 4, 5, 11, 12, 13, 14]
    assert heard.answer.asked_at_s == asked.asked_at_s == 5


def test_lag_is_how_far_watching_is_behind_offering(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(step_frames=2, session=LONG))
    live = engine.open()
    assert live.stats().lag_s == 0
    offer(live, 10)
    assert (live.stats().lag_s, live.stats().n_waiting) == (9, 10)
    engine.step()
    engine.step()
    assert (live.stats().time_s, live.stats().lag_s, live.stats().n_waiting) == (1, 8, 8)
    engine.finish()
    assert live.stats().lag_s == 0


def test_questions_in_the_dialogue_are_answered_in_turn_and_others_at_once(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=LONG))
    live = engine.open()
    offer(live)
    first, second, aside = ask(live)[1], ask(live)[1], ask(live, out_of_band=True)[1]
    while not first.has_ended:
        assert not second
        engine.step()
    assert aside
    engine.finish()
    said = first.answer.tokens
    assert second.answer.tokens.context == said.context + said.question + said.answer


def test_frames_promised_to_questions_that_were_cancelled_give_way_again(device: str) -> None:
    run = ByHand(TinyModel(device), EngineConfig(session=SHORT, frame_queue=2))
    live = run.open()
    offer(live, 2)
    _, patient = ask(live)
    for _ in range(20):
        offer(live, 2)
        hasty, _ = ask(live)
        hasty.cancel()
        live.scheduled.begin_questions()
        assert len(live.scheduled.queue) == 4, "the newest two, and what the first question waits for"
    run.finish()
    assert patient.answer.asked_at_s == 1.0
    assert watched_s(live) == [0.0, 1.0, 40.0, 41.0]


def test_a_cancelled_answer_ends_within_one_step_and_leaves_no_trace(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=LONG))
    live = engine.open()
    offer(live, 3)
    under_way, waiting = ask(live), ask(live)
    for _ in range(8):
        engine.step()
    assert under_way[1].text
    assert not under_way[1].has_ended
    for asked, heard in (waiting, under_way):
        n_told = len(heard)
        asked.cancel()
        engine.step()
        assert heard.has_ended
        assert heard.answer.cancelled
        assert len(heard) == n_told + 1
        asked.cancel()  # twice is once
    assert under_way[1].answer.text == under_way[1].text != ""
    assert waiting[1].answer.text == ""
    engine.finish()
    _, after = ask(live)
    engine.finish()
    _, fresh = ask(live, out_of_band=True)
    engine.finish()
    assert after.answer.tokens.context == fresh.answer.tokens.context


def test_one_question_too_many_is_refused_and_later_there_is_room_again(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(max_questions=2, session=SHORT))
    live = engine.open()
    offer(live)
    ask(live), ask(live)
    with pytest.raises(BusyError, match="2 questions"):
        ask(live)
    engine.finish()
    assert ask(live)[0].asked_at_s == 0


def test_a_session_by_hand_watches_what_a_session_alone_would(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=LONG, frame_queue=50, step_frames=50))
    live, session = engine.open(), Session(engine.model, LONG)
    offer(live, 40)
    session.observe([waiting.frame for waiting in list(live.scheduled.queue._frames)])
    engine.finish()
    assert [(d.time_s, d.reason) for d in live.scheduled.session.log] == [(d.time_s, d.reason) for d in session.log]
    assert live.scheduled.session.blocks() == session.blocks()
    assert math.isclose(live.stats().memory.host_bytes, session.memory.host_bytes)


def test_a_stream_whose_disk_is_behind_waits_and_holds_nobody_up(device: str) -> None:
    engine = ByHand(TinyModel(device), EngineConfig(session=LONG))
    slow, other = engine.open(), engine.open()
    reach_s = [2.0]
    slow.scheduled._reach_s = lambda: reach_s[0]  # type: ignore[method-assign]
    for live in (slow, other):
        offer(live, 6)
    _, heard = ask(slow)
    for _ in range(12):
        engine.step()
    assert watched_s(slow) == [0, 1, 2]
    assert watched_s(other) == list(range(6))
    assert not heard
    assert slow.stats().lag_s == 3
    reach_s[0] = math.inf
    engine.finish()
    assert heard.answer.asked_at_s == 5
