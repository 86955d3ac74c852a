"""The first thing to run: watches a synthetic video once, and asks it five kinds of questions on the way.

    python -m streamvlm_demos.first_questions build/demo.mp4 --model pocket

The video and its questions, with their truths, come from ``streamvlm world``. Pocket answers in the truths' words; an
answer of another model is right if it contains them.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from streamvlm.errors import StreamVlmError
from streamvlm.ingest.source import open_source
from streamvlm.models.registry import load_model
from streamvlm.readable import clock
from streamvlm.session.session import Session
from streamvlm.world.questions import Group, WorldQuestion, judge
from streamvlm.world.video import read_questions

KINDS = (Group.NOW, Group.EARLIER, Group.WHEN, Group.ORDER, Group.NEVER)
EACH = 2
_PATIENCE = ": at its first use it is downloaded and then calibrated, which takes about five minutes more"


def main(video: Path, *, model: str = "pocket", device: str = "auto") -> int:
    """Watches ``video``, asks, prints answers and truths, and returns how many answers were wrong."""
    asked = _questions(video.with_suffix(".jsonl"))
    marks: list[bool] = []
    with open_source(str(video)) as source:
        print(f"loading {model}{_PATIENCE if model != 'pocket' else ''}", flush=True)
        session = Session(load_model(model, device=device))
        print(f"watching {video} ({clock(source.duration_s or 0)})\n", flush=True)
        for frame in source:
            session.observe(frame)
            while asked and asked[0].ask_s < frame.time_s + 1:
                marks.append(_ask(session, asked.pop(0)))
    memory = session.memory
    print(
        f"{source.n_frames} frames watched once; {memory.n_clear} kept clear, {memory.n_fuzzy} fuzzy,"
        f" in {memory.host_bytes / 1e6:.1f} MB of keys and values; {sum(marks)} of {len(marks)} answers right"
    )
    return len(marks) - sum(marks)


def _questions(path: Path) -> list[WorldQuestion]:
    """Returns some questions of each kind, in the order of their ask times."""
    every = read_questions(path)
    chosen = [q for kind in KINDS for q in [q for q in every if q.group is kind][-EACH:]]
    return sorted(chosen, key=lambda q: q.ask_s)


def _ask(session: Session, question: WorldQuestion) -> bool:
    """Asks one question, streaming the answer; returns whether it is right."""
    print(f"[{clock(question.ask_s)}] {question.text}\n    ", end="")
    answering = session.ask(question.text)
    for piece in answering:
        print(piece, end="", flush=True)
    answer = answering.answer
    spans = ", ".join(f"{clock(e.start_s)}-{clock(e.end_s)}" for e in answer.evidence[:3])
    is_right = judge(question, answer.text) or (answer.model != "pocket" and says(answer.text, question.truth))
    mark = "right" if is_right else f"WRONG, truth: {question.truth}"
    print(
        f"    ({mark}; rests on {spans}; {answer.timings.ttft_s * 1000:.0f} ms to the first token)\n",
        flush=True,
    )
    return is_right


def says(answer: str, truth: str) -> bool:
    """Whether an answer contains all words of a truth, apart from articles and prepositions."""
    said, meant = (set(re.findall(r"[\w-]+", text.lower())) for text in (answer, truth))
    return meant - {"a", "an", "the", "in"} <= said


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Asks a video of `streamvlm world` its first questions.")
    arguments.add_argument("video", nargs="?", type=Path, default=Path("build/demo.mp4"))
    arguments.add_argument("--model", default="pocket", help="what `streamvlm ask --model` takes")
    given = arguments.parse_args()
    try:
        main(given.video, model=given.model)
    except StreamVlmError as error:
        sys.exit(f"first_questions: {error}")
