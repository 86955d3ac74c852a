"""Several sessions step by step through the same passes: each comes out as if it had been alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from streamvlm.errors import UsageError
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.question_work import Question, QuestionScope, QuestionWork
from streamvlm.session.session import Session
from streamvlm.session.steps import Look, Task, Work

QUESTIONS = ("what do you see now?", "did you see a red circle?", "when did you see the red circle?")
SLICES = [slice(0, 16), slice(30, 43), slice(60, 72)]


class Counted:
    """A model that counts its vision calls and decoder passes."""

    def __init__(self, model: VideoLanguageModel) -> None:
        self._model = model
        self.looks: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        self.looks.append(len(pictures))
        return self._model.see(pictures)


def together(runner: ModelRunner, works: Sequence[Work[Any]]) -> list[Any]:
    tasks = [Task(work) for work in works]
    while not all(task.has_ended for task in tasks):
        runner.advance(tasks)
    return [task.result() for task in tasks]


def work_on(session: Session, question: str, **settings: Any) -> QuestionWork:
    memory = session.stream_memory
    scope = QuestionScope.of(session.watcher, memory)
    return QuestionWork(memory, session.dialogue, Question(question, **settings), scope, time.perf_counter())


@pytest.fixture(scope="module")
def watched(pocket: VideoLanguageModel, frames: list[Frame]) -> tuple[list[Session], list[Session], Counted]:
    """Sessions that watched alone, the same that watched together, and the model of the latter."""
    alone = [Session(pocket) for _ in SLICES]
    for session, part in zip(alone, SLICES, strict=True):
        session.observe(frames[part])
    counted = Counted(pocket)
    runner = ModelRunner(counted)
    companions = [Session(pocket, runner=runner) for _ in SLICES]
    for start in (0, 8):
        chunks = [frames[part][start : start + 8] for part in SLICES]
        together(runner, [session.watcher.watch(chunk) for session, chunk in zip(companions, chunks, strict=True)])
    return alone, companions, counted


def test_frames_of_several_sessions_are_seen_in_one_vision_call(
    watched: tuple[list[Session], list[Session], Counted],
) -> None:
    assert watched[2].looks == [24, 8 + 5 + 4]


def test_watched_together_is_watched_alone(watched: tuple[list[Session], list[Session], Counted]) -> None:
    for alone, companion in zip(*watched[:2], strict=True):
        decided, decided_alone = list(companion.log), list(alone.log)
        assert [(d.time_s, d.reason) for d in decided] == [(d.time_s, d.reason) for d in decided_alone]
        assert [d.score for d in decided] == pytest.approx([d.score for d in decided_alone], abs=1e-4)
        blocks, blocks_alone = companion.blocks(), alone.blocks()
        assert [(b.start_s, b.end_s, b.fidelity) for b in blocks] == [
            (b.start_s, b.end_s, b.fidelity) for b in blocks_alone
        ]
        ids = [block.id for block in blocks]
        for got, expected in zip(
            companion.stream_memory.blocks.fetch(ids), alone.stream_memory.blocks.fetch(ids), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_answered_together_is_answered_alone(watched: tuple[list[Session], list[Session], Counted]) -> None:
    alone, companions, _ = watched
    runner = companions[0].runner
    asked = [(i, question) for i in range(len(SLICES)) for question in QUESTIONS]
    answers: list[Answer] = together(
        runner, [work_on(companions[i], question, out_of_band=True).steps() for i, question in asked]
    )
    expected = [alone[i].ask(question, out_of_band=True).answer for i, question in asked]
    assert [(a.text, a.retrieved, a.tokens) for a in answers] == [(a.text, a.retrieved, a.tokens) for a in expected]
    for got, single in zip(answers, expected, strict=True):
        assert [e.score for e in got.evidence] == pytest.approx([e.score for e in single.evidence], abs=1e-3)


def test_an_answer_is_not_disturbed_by_frames_watched_between_its_steps(
    pocket: VideoLanguageModel, frames: list[Frame]
) -> None:
    runner = ModelRunner(pocket)
    undisturbed, session = Session(pocket, runner=runner), Session(pocket, runner=runner)
    undisturbed.observe(frames[:24])
    session.observe(frames[:24])
    expected = undisturbed.ask(QUESTIONS[2]).answer
    asked = Task(work_on(session, QUESTIONS[2]).steps())
    for chunk in (frames[24:27], frames[27:30], frames[30:33]):
        runner.advance([asked])
        session.observe(chunk)
    while not asked.has_ended:
        runner.advance([asked])
    assert asked.result().text == expected.text
    assert asked.result().asked_at_s == 23
    assert [e.start_s for e in asked.result().evidence] == [e.start_s for e in expected.evidence]


def test_only_the_work_that_is_at_fault_fails(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    runner = ModelRunner(pocket)
    good, bad = Session(pocket, runner=runner), Session(pocket, runner=runner)

    def look_at_nothing() -> Work[None]:
        yield Look([torch.zeros(0).numpy()])

    tasks: list[Task[Any]] = [
        Task(look_at_nothing()),
        Task(good.watcher.watch(frames[:2])),
        Task(bad.watcher.watch(frames[5:3:-1])),
    ]
    while not all(task.has_ended for task in tasks):
        runner.advance(tasks)
    assert len(tasks[1].result()) == 2
    with pytest.raises(ValueError, match="backwards"):
        tasks[2].result()
    with pytest.raises(Exception, match=r".+"):
        tasks[0].result()
    assert good.time_s == 1
    assert bad.time_s is None


def test_closed_work_leaves_no_trace(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = Session(pocket)
    session.observe(frames[:8])
    expected = session.ask(QUESTIONS[0], out_of_band=True).answer.text
    asked = work_on(session, QUESTIONS[0])
    task = Task(asked.steps())
    for _ in range(2):
        session.runner.advance([task])
    task.close()
    assert task.has_ended
    broken_off = asked.answer(cancelled=True)
    assert broken_off.cancelled
    assert expected.startswith(broken_off.text)
    assert not session.dialogue.payloads


def test_an_answer_has_no_more_tokens_than_asked_for(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = Session(pocket)
    session.observe(frames[:8])
    long = session.ask(QUESTIONS[0], out_of_band=True).answer
    short = session.ask(QUESTIONS[0], out_of_band=True, max_tokens=2).answer
    assert long.tokens.answer > short.tokens.answer == 2
    assert long.text.startswith(short.text)
    exact = session.ask(QUESTIONS[0], out_of_band=True, max_tokens=long.tokens.answer).answer
    assert (exact.text, exact.is_cut) == (long.text, False)
    assert (long.is_cut, short.is_cut) == (False, True)


def test_an_answer_cut_by_the_sessions_own_limit_says_so(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = Session(pocket, SessionConfig(max_answer_tokens=2))
    session.observe(frames[:8])
    assert session.ask(QUESTIONS[0]).answer.is_cut


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"max_tokens": 0}, "at least 1"), ({"temperature": -1.0}, "at least 0"), ({"temperature": float("nan")}, "nan")],
)
def test_settings_no_answer_can_have_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Question("what?", **settings)


@pytest.mark.parametrize("policy", ["streamvlm", "uniform", "everything"])
def test_what_is_forgotten_while_a_question_waits_is_not_given_to_it(
    policy: str, pocket: VideoLanguageModel, frames: list[Frame]
) -> None:
    session = Session(pocket, SessionConfig(policy=policy, host_budget_bytes=700_000, window_blocks=3))
    session.observe(frames[:60])
    before = [block.id for block in session.blocks()]
    asked = Task(work_on(session, "did you see a red circle?").steps())
    session.observe(frames[60:68])
    left = {block.id for block in session.blocks()}
    assert before[0] not in left
    assert left & set(before[:-3])
    while not asked.has_ended:
        session.runner.advance([asked])
    retrieved = asked.result().retrieved
    assert set(retrieved) <= left & set(before[:-3])
    assert retrieved or policy == "streamvlm"
