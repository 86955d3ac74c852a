"""Symbolic training clips: the decoder's input for a stretch of a world, made without drawing a picture.

A clip is the sequence that the decoder is trained on: the opening, the kept blocks of a stretch of a world (as
simulated attribute posteriors), and conversations asked at different moments, each seeing only its own retrieved
blocks and window. Everything that a loss needs (targets, visibility, which block answers) is in the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tokenizers import Tokenizer

from streamvlm.models.families.pocket.prompt import OPENING, question_ids, reply_ids, time_ids
from streamvlm.readable import clock
from streamvlm.training.simulated_blocks import WINDOW_BLOCKS, SimulatedBlock, as_seen, confusable, gated, shifted
from streamvlm.world.events import COLOURS, SHAPES, World, make_world
from streamvlm.world.questions import Examiner, Group, WorldQuestion

TOP_K = 8
"""Most blocks that retrieval adds to the window."""
MOMENTS, QUESTIONS_A_MOMENT = 3, 2
"""At how many blocks of a clip there are questions, besides its last and those that show a photograph."""
SPOKEN_WORD = (
    "what do you see now?",
    "what is there now?",
    "what do you see in this picture?",
    "what is this?",
    "what is shown?",
)
FOLLOWS = {
    "where": ("where was it?", "and where was it?", "where did it appear?"),
    "badge": ("which badge did it have?", "and which badge did it have?", "what badge was on it?"),
    "scene": ("in which scene was it?", "which scene was it in?"),
    "when": ("when was it there?", "when did it appear?", "and when was that?"),
    "order": ("what came after it?", "and what came right after it?", "what appeared after it?"),
}
NAMES_ITS_THING = ("where", "badge", "scene", "when", "seen")
EARLIER_WORD = ("when did you see a {word}?", "when did a {word} appear?")


@dataclass(slots=True)
class ClipDialogue:
    """Question and answer tokens asked at block ``now``; ``visible`` blocks are attended to.

    ``past`` is the dialogue before it: a question and its answer.
    """

    now: int
    visible: np.ndarray  # (blocks,) bool
    past: list[int]
    question: list[int]
    answer: list[int]
    key: str | None
    answering: list[int]
    kind: str
    probe: bool


@dataclass(slots=True)
class Clip:
    """A stretch of a world, and questions about it."""

    kept: list[SimulatedBlock]
    conversations: list[ClipDialogue] = field(default_factory=list)


def make_clip(rng: np.random.Generator, tokenizer: Tokenizer, *, start_s: float, n_blocks: int, noise: float) -> Clip:
    """Draws one clip of ``n_blocks`` kept blocks from ``start_s`` on, and questions asked along the way."""
    world = shifted(make_world(int(rng.integers(2**62)), n_blocks * 30.0 + 100), start_s)
    if rng.random() < 0.75:
        world = confusable(world, rng)
    kept = gated(world, rng, noise, start_s, n_blocks)
    clip = Clip(kept)
    world = as_seen(world, kept)
    examiner = Examiner(world, rng, settled_s=0.0)
    moments = rng.choice(np.arange(2, len(kept)), size=MOMENTS, replace=False)
    pictured = [i for i, block in enumerate(kept) if block.word and i >= 2]
    for now in sorted({*moments.tolist(), *pictured[-1:], len(kept) - 1}):
        asked = _questions_at(world, examiner, clip, now, rng)
        for question in asked[:QUESTIONS_A_MOMENT]:
            followed, past = question, list[int]()
            if rng.random() < 0.3:
                followed, past = _followed(question, asked, clip, now, rng, tokenizer)
            clip.conversations += _conversations(followed, past, clip, now, rng, tokenizer)
    return clip


def _followed(
    first: tuple[WorldQuestion, str | None],
    asked: list[tuple[WorldQuestion, str | None]],
    clip: Clip,
    now: int,
    rng: np.random.Generator,
    tokenizer: Tokenizer,
) -> tuple[tuple[WorldQuestion, str | None], list[int]]:
    """Draws a second question after ``first``: about the same thing, then called "it", or about anything."""
    same = [q for q in asked if q[1] == first[1] is not None and q[0].kind in FOLLOWS and q[0].kind != first[0].kind]
    if same and first[0].kind in NAMES_ITS_THING:
        question, key = same[int(rng.integers(len(same)))]
        second = replace(question, text=str(rng.choice(FOLLOWS[question.kind]))), key
    else:
        second = asked[int(rng.integers(len(asked)))]
    answer = _truth(first[0], _answering(first[0], first[1], clip.kept, now), clip.kept)
    return second, question_ids(tokenizer, first[0].text) + reply_ids(tokenizer, answer)


def _truth(question: WorldQuestion, answering: Sequence[int], kept: Sequence[SimulatedBlock]) -> str:
    """Returns the answer in training: its times are those of the block that answers, as the model reads no others."""
    if question.kind in ("when", "seen") and answering:
        at = clock(kept[answering[0]].time_s)
        return f"at {at}" if question.kind == "when" else f"yes, at {at}"
    return question.truth


def _questions_at(
    world: World, examiner: Examiner, clip: Clip, now: int, rng: np.random.Generator
) -> list[tuple[WorldQuestion, str | None]]:
    """Returns questions for block ``now``, in random order, but those of kinds that are hard to learn first."""
    block = clip.kept[now]
    ask_s = block.time_s
    found: list[tuple[WorldQuestion, str | None]] = []
    if block.word:
        found.append(
            (
                WorldQuestion("word", Group.NOW, str(rng.choice(SPOKEN_WORD)), ask_s, f"a {block.word}", ask_s, ask_s),
                None,
            )
        )
    elif block.clear:
        found += [(q, None) for q in examiner.now(ask_s)]
    horizon = [k for k in clip.kept[: now + 1]]
    first_s = horizon[0].time_s
    known = {a.thing.name for k in horizon for a in k.shown}
    for number, a in enumerate(world.appearances):
        if a.thing.name not in known or a.start_s < first_s or a.start_s > ask_s - 1:
            continue
        for q in examiner.about(number, ask_s):
            if q.kind == "order" and world.appearances[number + 1].thing.name not in known:
                continue
            key = {
                "what": f"{a.zone}|{world.scene(a.start_s).name}",
                "colour": f"{a.thing.shape}|{a.thing.badge}",
                "order": f"after {a.thing.name}",
            }.get(q.kind, a.thing.name)
            found.append((q, key))
    for k in {k.word for k in horizon if k.word}:
        key = f"word {k}"
        first = next(b for b in horizon if key in b.first_of or b.word == k)
        found.append(
            (
                WorldQuestion(
                    "word_when",
                    Group.WHEN,
                    str(rng.choice(EARLIER_WORD)).format(word=k),
                    ask_s,
                    f"at {clock(first.time_s)}",
                    first.time_s,
                    first.time_s,
                ),
                key,
            )
        )
    found += [(examiner.never(ask_s), None) for _ in range(2)]
    absent = [n for n in (f"{c} {s}" for c in COLOURS for s in SHAPES) if n not in known]
    near = [n for n in absent if rng.random() < 0.5] or absent
    found.append((WorldQuestion("never", Group.NEVER, f"did you see a {rng.choice(near)}?", ask_s, "no"), None))
    rng.shuffle(found)
    weight = {
        "order": 3.0,
        "when": 2.0,
        "seen": 1.5,
        "now_scene": 1.5,
        "now_nothing": 5.0,
        "now_what": 5.0,
        "now_badge": 1.5,
        "now_colour": 1.5,
        "now_where": 1.0,
        "never": 2.0,
        "colour": 2.5,
        "word": 12.0,
        "word_when": 1.5,
        "badge": 1.5,
        "what": 2.0,
    }
    draw = rng.random(len(found)) ** (1 / np.array([weight.get(q.kind, 1.0) for q, _ in found]))
    return [found[i] for i in np.argsort(-draw)]


def _conversations(
    asked: tuple[WorldQuestion, str | None],
    past: list[int],
    clip: Clip,
    now: int,
    rng: np.random.Generator,
    tokenizer: Tokenizer,
) -> list[ClipDialogue]:
    question, key = asked
    kept = clip.kept
    window = np.zeros(len(kept), bool)
    window[max(0, now + 1 - WINDOW_BLOCKS) : now + 1] = True
    answering = _answering(question, key, kept, now)
    if key is not None and not answering:
        return []
    truth = _truth(question, answering, kept)
    visible = window.copy()
    if key is not None:
        if question.kind == "order":
            # Retrieval fetches the thing in the question, the one that follows it, or both.
            visible[answering] = True
            subject = key.removeprefix("after ")
            if rng.random() < 0.8:
                visible[[i for i in range(now + 1) if subject in kept[i].keys]] = True
        else:
            visible[answering[: int(rng.integers(1, len(answering) + 1))]] = True
    if rng.random() < (0.85 if question.kind == "never" else 0.5):
        # Retrieval fetches by mistake what resembles the thing in the question.
        likeness = [_likeness(question, block) + rng.random() for block in kept[: now + 1]]
        visible[np.argsort(likeness)[-int(rng.integers(1, TOP_K + 1)) :]] = True
    else:
        share = rng.choice([0.0, rng.uniform(0, 0.6), 1.0], p=[0.15, 0.6, 0.25])
        visible[: now + 1] |= rng.random(now + 1) < share
    q, a = question_ids(tokenizer, question.text), reply_ids(tokenizer, truth)
    full = ClipDialogue(now, visible, past, q, a, key, answering, question.kind, probe=False)
    if key is None:
        return [full]
    return [full, ClipDialogue(now, window, past, q, [], key, answering, question.kind, probe=True)]


def _likeness(question: WorldQuestion, block: SimulatedBlock) -> int:
    """Counts how many of a question's naming words are true of one thing in ``block``."""
    words = set(question.text.rstrip("?").split())
    return max((len(words & thing) for thing in block.parts), default=0)


def _answering(question: WorldQuestion, key: str | None, kept: Sequence[SimulatedBlock], now: int) -> list[int]:
    if key is None:
        return []
    blocks = [i for i in range(now + 1) if key in kept[i].keys]
    return blocks[:1] if question.kind in ("when", "seen", "word_when") else blocks


def clip_tokens(clip: Clip, tokenizer: Tokenizer) -> tuple[list[list[int]], list[int]]:
    """Returns the timestamp tokens of every block, and the opening's tokens."""
    return [time_ids(tokenizer, k.time_s) for k in clip.kept], tokenizer.encode(OPENING, add_special_tokens=False).ids
