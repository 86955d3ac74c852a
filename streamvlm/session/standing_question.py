"""Standing questions: answered by the stream itself, at the moment their condition becomes true.

A condition is checked on the frame of the moment alone: the model reads its opening, that frame in full fidelity and
the question, and the likelihood of yes against no as the first word is the probability. So a question such as "did you
see a red circle?" asks whether it is there now, whatever was seen before, and what is asked neither sees nor joins the
dialogue. It is asked when the gate keeps a frame as a turning point, and at least every so often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import Addition
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity
from streamvlm.models.base import VideoLanguageModel
from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.model_runner import ModelRunner
from streamvlm.session.steps import Reading, Work
from streamvlm.session.watching import SeenFrame


@dataclass(frozen=True, slots=True)
class StandingQuestion:
    """A question to be answered when its answer becomes yes.

    Attributes:
        question: One that can be answered by yes or no about a single picture.
        threshold: It fires at this probability of yes.
        release: Having fired, it may fire again once the probability has been this low.
        every_s: Longest stretch of stream time without a check.
        cool_down_s: Having fired, it does not fire again for so much stream time.
    """

    question: str
    threshold: float = 0.8
    release: float = 0.3
    every_s: float = 1.0
    cool_down_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuses what could never fire, or never again.

        Raises:
            UsageError: If the question is empty, the bounds are no probabilities in order, or a time is negative.
        """
        if not self.question.strip():
            raise UsageError("The standing question is empty; ask something that yes or no answers.")
        if not 0 <= self.release < self.threshold <= 1:
            raise UsageError(
                f"It would fire at {self.threshold:g} and be released at {self.release:g}; "
                "give probabilities, the second below the first."
            )
        if not (self.every_s > 0 and 0 <= self.cool_down_s < math.inf):
            raise UsageError(
                f"A check every {self.every_s:g} s and {self.cool_down_s:g} s to cool down make no sense; "
                "give seconds, the first above 0."
            )


@dataclass(frozen=True, slots=True)
class Fired:
    """A standing question's condition has become true.

    Attributes:
        standing_id: Of the question.
        question: As it was armed.
        time_s: Stream time of the frame in which it did.
        probability: Of yes.
        evidence: That frame.
        number: Counts what the session's standing questions have told, from 1.
        n_missed: How many before it nobody was told of, as they came to be too many to be kept.
    """

    standing_id: str
    question: str
    time_s: float
    probability: float
    evidence: tuple[Evidence, ...]
    number: int = 0
    n_missed: int = 0


class ArmedQuestion:
    """One standing question over a stream: when it is checked, and whether it fires.

    Fires once per occurrence: it then waits until the probability has fallen to ``release``. What becomes true while it
    cools down fires when it has, if it is still true.

    Args:
        standing_id: Of the question.
        standing: What to watch for.
        fired_s: When it fired last, in an earlier process; what is still true is told again once it has cooled down.
    """

    def __init__(self, standing_id: str, standing: StandingQuestion, *, fired_s: float | None = None) -> None:
        self.standing_id, self.standing = standing_id, standing
        self._is_released = True
        self._checked_s = -math.inf
        self._fired_s = -math.inf if fired_s is None else fired_s

    def is_due(self, time_s: float, fidelity: Fidelity) -> bool:
        """Whether to check a frame: a turning point, or the first in a while."""
        return fidelity is Fidelity.CLEAR or time_s - self._checked_s >= self.standing.every_s

    def judge(self, time_s: float, probability: float) -> bool:
        """Takes the probability of yes in a frame that was due; returns whether the question fires."""
        self._checked_s = time_s
        if probability <= self.standing.release:
            self._is_released = True
        is_cool = time_s - self._fired_s >= self.standing.cool_down_s
        if not (self._is_released and is_cool and probability >= self.standing.threshold):
            return False
        self._is_released, self._fired_s = False, time_s
        return True


def check(
    runner: ModelRunner, armed_questions: Sequence[ArmedQuestion], seen: SeenFrame
) -> Work[list[tuple[ArmedQuestion, Fired]]]:
    """Checks a frame that was watched; the work wants a reading of the frame, and one of all questions that are due.

    Returns:
        What fired.
    """
    model, decision = runner.model, seen.decision
    due = [armed for armed in armed_questions if armed.is_due(decision.time_s, decision.fidelity)]
    if not due:
        return []
    tokens = model.frame_tokens(seen.sight, decision.time_s, Fidelity.CLEAR)
    context = runner.decoder.context_of([KeyValues(runner.sinks)], len(tokens))
    added = Addition(tokens.embeddings, context, positions=tokens.positions, deepstack=tokens.deepstack)
    (read,) = yield Reading([added])
    now = [KeyValues(runner.sinks), KeyValues(read.payload, positions=tokens.positions)]
    asked = [model.question_tokens(armed.standing.question) for armed in due]
    contexts = [runner.decoder.context_of(now, len(question)) for question in asked]
    reads = yield Reading([Addition(*pair, predicts=True) for pair in zip(asked, contexts, strict=True)])
    evidence = evidence_at(decision.time_s)
    fired = []
    for armed, read in zip(due, reads, strict=True):
        probability = probability_of_yes(read.logits, model)
        if armed.judge(decision.time_s, probability):
            question = armed.standing.question
            fired.append((armed, Fired(armed.standing_id, question, decision.time_s, probability, evidence)))
    return fired


def evidence_at(time_s: float) -> tuple[Evidence, ...]:
    """Returns the frame of a moment, which is all that a check looks at."""
    return (Evidence(time_s, time_s, Fidelity.CLEAR, 1.0),)


def probability_of_yes(logits: Tensor, model: VideoLanguageModel) -> float:
    """Returns, for logits (vocabulary,), the share of words for yes among those for yes and no."""
    yes, no = (logits.double()[sorted(ids)].logsumexp(0) for ids in (model.yes_ids, model.no_ids))
    return float((yes - no).sigmoid())
