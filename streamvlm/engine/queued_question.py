"""A question that waits in a live session, and the events that its listener gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamvlm.errors import StreamVlmError
from streamvlm.session.answer import Answer
from streamvlm.session.question_work import Question, QuestionScope, QuestionWork
from streamvlm.session.steps import Task


@dataclass(frozen=True, slots=True)
class Piece:
    """The next words of an answer."""

    text: str


Listener = Callable[[Piece | Answer | StreamVlmError], None]
"""Gets the pieces of an answer as they come, then once the whole answer or an error, and nothing after it.

It is called on the worker's thread and must return at once.
"""


@dataclass(eq=False, slots=True)
class QueuedQuestion:
    """A question on its way: it waits for its frames and for its turn in the dialogue, and then is answered.

    Attributes:
        question: What is asked.
        asked_at_s: It sees the frames up to this stream time, and is not begun before they are watched.
        listener: Hears the answer.
        began_s: When it was asked (``time.perf_counter``).
        is_cancelled: Whether nobody wants the answer any more.
        scope: What it may see, once its frames are watched.
        work: Answers it, once it has begun.
        task: The steps of that work.
    """

    question: Question
    asked_at_s: float
    listener: Listener
    began_s: float
    is_cancelled: bool = False
    scope: QuestionScope | None = None
    work: QuestionWork | None = None
    task: Task[Answer] | None = None
