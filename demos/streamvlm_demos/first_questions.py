"""The first thing to run: watch a synthetic video once, and ask it five kinds of questions as it goes by.

    python -m streamvlm_demos.first_questions build/demo.mp4

The video and its questions, with their truths, come from ``streamvlm world``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamvlm.engine import Session
from streamvlm.errors import StreamVlmError
from streamvlm.ingest.source import open_source
from streamvlm.models.registry import load_model
from streamvlm.world.questions import Group, Question, clock, judge
from streamvlm.world.video import read_questions

KINDS = (Group.NOW, Group.EARLIER, Group.WHEN, Group.ORDER, Group.NEVER)
EACH = 2


def main(video: Path, *, device: str = "auto") -> int:
    """Watches ``video``, asks, prints answers and truths, and returns how many answers were wrong."""
    asked = _questions(video.with_suffix(".jsonl"))
    wrong = 0
    with open_source(str(video)) as source:
        session = Session(load_model("pocket", device=device))
        print(f"watching {video} ({clock(source.duration_s or 0)}) on the bundled model\n")
        for frame in source:
            session.observe(frame)
            while asked and asked[0].ask_s < frame.time_s + 1:
                wrong += not _ask(session, asked.pop(0))
    memory = session.memory
    print(
        f"{source.n_frames} frames watched once; {memory.n_clear} kept clear, {memory.n_fuzzy} fuzzy,"
        f" in {memory.host_bytes / 1e6:.1f} MB of keys and values; {wrong} answers wrong"
    )
    return wrong


def _questions(path: Path) -> list[Question]:
    """Some questions of each kind, in the order of their ask times."""
    every = read_questions(path)
    chosen = [q for kind in KINDS for q in [q for q in every if q.group is kind][-EACH:]]
    return sorted(chosen, key=lambda q: q.ask_s)


def _ask(session: Session, question: Question) -> bool:
    """Asks one question, streaming the answer; returns whether it is right."""
    print(f"[{clock(question.ask_s)}] {question.text}\n    ", end="")
    answering = session.ask(question.text)
    for piece in answering:
        print(piece, end="", flush=True)
    answer = answering.answer
    spans = ", ".join(f"{clock(e.start_s)}-{clock(e.end_s)}" for e in answer.evidence[:3])
    mark = "right" if judge(question, answer.text) else f"WRONG, truth: {question.truth}"
    print(
        f"    ({mark}; rests on {spans}; {answer.timings.ttft_s * 1000:.0f} ms to the first token)\n",
        flush=True,
    )
    return judge(question, answer.text)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo.mp4"))
    except StreamVlmError as error:
        sys.exit(f"first_questions: {error}")
