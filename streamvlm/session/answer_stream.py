"""An answer whose words are still coming."""

from __future__ import annotations

from collections.abc import Iterator

from streamvlm.session.answer import Answer
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.question_work import QuestionWork
from streamvlm.session.steps import Task


class AnswerStream(Iterator[str]):
    """An answer under way: iterate it for pieces of text as they come; then ``answer`` holds the whole.

    What it sees was fixed when the question was asked; frames observed meanwhile change nothing.
    """

    def __init__(self, runner: ModelRunner, work: QuestionWork) -> None:
        """Runs the work until all that the answer needs is fetched; iterating runs it on, step by step."""
        self._runner, self._pieces = runner, work.pieces
        self._task = Task(work.steps())
        while not (work.is_prepared or self._task.has_ended):
            runner.advance([self._task])
        if self._task.has_ended:
            self._task.result()

    def __next__(self) -> str:
        """Returns the next piece of text."""
        while not self._pieces and not self._task.has_ended:
            self._runner.advance([self._task])
        if not self._pieces:
            self._task.result()
            raise StopIteration
        return self._pieces.pop(0)

    @property
    def answer(self) -> Answer:
        """The finished answer; what has not been decoded yet is decoded first."""
        for _ in self:
            pass
        return self._task.result()
