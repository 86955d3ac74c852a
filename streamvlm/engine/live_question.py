"""A question to a live session, and what is told of its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamvlm.engine.answer import Answer
from streamvlm.engine.asking import Asking, Inquiry, Moment
from streamvlm.engine.work import Task
from streamvlm.errors import StreamVlmError


@dataclass(frozen=True, slots=True)
class Piece:
    """The next words of an answer."""

    text: str


Listener = Callable[[Piece | Answer | StreamVlmError], None]
"""Told the pieces of an answer as they come, then once the whole answer or an error, and nothing after it.

Called on the worker's thread: it must return at once.
"""


@dataclass(eq=False, slots=True)
class LiveQuestion:
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

    asking: Asking
    asked_at_s: float
    listener: Listener
    began_s: float
    is_cancelled: bool = False
    moment: Moment | None = None
    inquiry: Inquiry | None = None
    task: Task[Answer] | None = None
