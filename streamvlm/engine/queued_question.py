"""A question to a live session, and what is told of its answer."""

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
"""Told the pieces of an answer as they come, then once the whole answer or an error, and nothing after it.

Called on the worker's thread: it must return at once.
"""


@dataclass(eq=False, slots=True)
class QueuedQuestion:
    """A question on its way: it waits for its frames, for its turn in the dialogue, and then is under way.

    Attributes:
        asking: What is asked.
        asked_at_s: It sees the frames up to this stream time, and is not begun before they are watched.
        listener: Who hears the answer.
        began_s: When it was asked (``time.perf_counter``).
        is_cancelled: Whether nobody wants the answer any more.
        moment: What it may see, once its frames are watched.
        inquiry: The question under way.
        task: The work of it.
    """

    asking: Question
    asked_at_s: float
    listener: Listener
    began_s: float
    is_cancelled: bool = False
    moment: QuestionScope | None = None
    inquiry: QuestionWork | None = None
    task: Task[Answer] | None = None
