"""Lays clips out as tensors: one sequence a clip, with the mask of streaming attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from streamvlm.models.families.pocket.attributes import GROUPS, NOTHING, SPAN
from streamvlm.training.clips import Clip, ClipDialogue, clip_tokens
from streamvlm.training.simulated_blocks import SimulatedBlock
from streamvlm.world.events import COLOURS, SHAPES

IGNORE = -100
NAMED = ("colour", "shape", "badge", "zone", "scene")
"""Attribute groups by which questions name their things."""
_N_HINTS = 3 + len(NAMED)
_NO_SHAPE = SPAN["shape"].start + GROUPS["shape"].index(NOTHING)


@dataclass(slots=True)
class Batch:
    """Tensors of one step; B clips, S tokens a clip (padded).

    Attributes:
        ids: (B, S) token ids; visual places hold 0.
        posteriors: (V, attributes) posteriors of all visual tokens in the batch, in order of ``visual``.
        visual: (B, S) bool, where visual tokens lie.
        positions: (B, S) position ids; conversations go on from the block at which they are asked.
        mask: (B, 1, S, S) bool, True where attention is allowed.
        labels: (B, S) next-token targets at answer tokens, else -100.
        block: (B, S) block number in the batch of every block token, else -1.
        probes: for every probe, its rows (clip, start, stop) of question tokens.
        positive, negative: (probes, blocks in batch) bool: the blocks that answer; those that do not.
        hints: (B, S, 8) targets of auxiliary heads: at a thing's token, the colour and shape of the thing before, and
            whether it has just appeared; at a question's token, the attributes named so far; -100 elsewhere.
        answers: for every answer, its rows (clip, start, stop) of predicting tokens, and its question's kind.
        reading: (R, 2) rows (clip, token) of predicting tokens whose answer stands in known blocks.
        source: (R, S) bool, for each of them, the tokens of those blocks that show it.
    """

    ids: Tensor
    posteriors: Tensor
    visual: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    block: Tensor
    probes: list[tuple[int, int, int]]
    positive: Tensor
    negative: Tensor
    hints: Tensor
    answers: list[tuple[int, int, int, str]]
    reading: Tensor
    source: Tensor


def make_batch(clips: Sequence[Clip], tokenizer: Tokenizer) -> Batch:
    """Lays ``clips`` out side by side."""
    rows = [_lay_out(clip, tokenizer) for clip in clips]
    length = -(-max(len(r.ids) for r in rows) // 32) * 32
    n = len(rows)
    ids = torch.zeros(n, length, dtype=torch.long)
    visual = torch.zeros(n, length, dtype=torch.bool)
    positions = torch.zeros(n, length, dtype=torch.long)
    labels = torch.full((n, length), IGNORE)
    block = torch.full((n, length), -1)
    hints = torch.full((n, length, _N_HINTS), IGNORE)
    mask = torch.eye(length, dtype=torch.bool).repeat(n, 1, 1)
    probes, answers, posteriors, reading, source = [], [], [], [], []
    first_block = 0
    for b, row in enumerate(rows):
        s = len(row.ids)
        ids[b, :s] = torch.tensor(row.ids)
        visual[b, :s] = torch.from_numpy(row.visual)
        positions[b, :s] = torch.from_numpy(row.positions)
        labels[b, :s] = torch.from_numpy(row.labels)
        block[b, :s] = torch.from_numpy(np.where(row.block >= 0, row.block + first_block, -1))
        hints[b, :s] = torch.from_numpy(row.hints)
        mask[b, :s, :s] = torch.from_numpy(row.mask)
        probes += [(b, start, stop) for start, stop, _ in row.probes]
        answers += [(b, start, stop, kind) for start, stop, kind, _ in row.answers]
        for start, stop, kind, blocks in row.answers:
            if blocks:
                stands = np.zeros(length, bool)
                stands[:s] = np.isin(row.block, blocks) & _shows(row.role, kind)
                reading += [(b, i) for i in range(start, stop)]
                source += [stands] * (stop - start)
        posteriors += [k.posteriors for k in clips[b].kept]
        first_block += len(clips[b].kept)
    positive, negative = _answering(clips)
    return Batch(
        ids, torch.from_numpy(np.concatenate(posteriors)), visual, positions, mask[:, None], labels, block,
        probes, positive, negative, hints, answers,
        torch.tensor(reading), torch.from_numpy(np.array(source)),
    )  # fmt: skip


_OTHER, _WHOLE, _THING = range(3)
"""Roles of tokens: a block's token for the whole picture, one for a zone with a thing in it, and all others."""


def _shows(role: np.ndarray, kind: str) -> np.ndarray:
    """Returns which tokens of a block show what a question of ``kind`` asks for."""
    if kind.endswith("scene") or kind == "now_nothing":
        return np.ones(len(role), bool)
    shows: np.ndarray = role == (_WHOLE if kind.startswith("word") else _THING)
    return shows


@dataclass(slots=True)
class _Row:
    ids: list[int]
    visual: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    block: np.ndarray
    hints: np.ndarray
    role: np.ndarray
    mask: np.ndarray
    probes: list[tuple[int, int, int]]
    answers: list[tuple[int, int, str, list[int]]]


def _lay_out(clip: Clip, tokenizer: Tokenizer) -> _Row:
    times, opening = clip_tokens(clip, tokenizer)
    ids: list[int] = list(opening)
    block, talk, visual = [-1] * len(ids), [-1] * len(ids), [False] * len(ids)
    hints = [[IGNORE] * _N_HINTS for _ in ids]
    role = [_OTHER] * len(ids)
    for i, (kept, stamp) in enumerate(zip(clip.kept, times, strict=True)):
        n = len(kept.posteriors)
        ids += stamp + [0] * n
        block += [i] * (len(stamp) + n)
        talk += [-1] * (len(stamp) + n)
        visual += [False] * len(stamp) + [True] * n
        hints += [[IGNORE] * _N_HINTS for _ in stamp] + [_hint(kept, p) for p in kept.posteriors]
        things = kept.posteriors[1:, SPAN["shape"]].argmax(1) != SPAN["shape"].stop - SPAN["shape"].start - 1
        role += [_OTHER] * len(stamp) + [_WHOLE] + [_THING if thing else _OTHER for thing in things]
    positions = list(range(len(ids)))
    labels = [IGNORE] * len(ids)
    block_ends = np.flatnonzero(np.diff([*block, -1])) + 1  # the first: the opening's
    probes, answers = [], []
    for c, conversation in enumerate(clip.conversations):
        asked = conversation.past + conversation.question
        tokens = asked + conversation.answer
        start, n_question = len(ids), len(asked)
        ids += tokens
        block += [-1] * len(tokens)
        talk += [c] * len(tokens)
        visual += [False] * len(tokens)
        hints += _named_hints(conversation, tokenizer)
        role += [_OTHER] * len(tokens)
        # Right behind the block at which it is asked, as at run time: "now" is what lies next to the question.
        begin = int(block_ends[1 + conversation.now])
        positions += range(begin, begin + len(tokens))
        # labels[i] is what token i should predict: the next token, from the question's last one on.
        labels += [IGNORE] * (n_question - 1) + conversation.answer + [IGNORE]
        if conversation.probe:
            probes.append((start + len(conversation.past), start + n_question, c))
        else:
            blocks = [i for i in conversation.answering if conversation.visible[i]]
            if conversation.kind.startswith("now") or conversation.kind == "word":
                blocks = [conversation.now]
            answers.append((start + n_question - 1, start + len(tokens) - 1, conversation.kind, blocks))
    return _Row(
        ids, np.array(visual), np.array(positions), np.array(labels[: len(ids)]), np.array(block),
        np.array(hints), np.array(role), _mask(clip, np.array(block), np.array(talk)), probes, answers,
    )  # fmt: skip


def _hint(kept: SimulatedBlock, posterior: np.ndarray) -> list[int]:
    """Returns targets for a visual token that shows a thing: the thing before, and whether it is new."""
    if posterior[_NO_SHAPE] > 0.5 or not kept.shown or posterior[SPAN["shape"]].sum() < 0.5:
        return [IGNORE] * _N_HINTS
    nothing = [IGNORE] * len(NAMED)
    shape = GROUPS["shape"][int(posterior[SPAN["shape"]].argmax())]
    colour = GROUPS["colour"][int(posterior[SPAN["colour"]].argmax())]
    name = f"{colour} {shape}"
    is_new = int(name in kept.first_of) if name in kept.keys else IGNORE
    if name == kept.shown[-1].thing.name and kept.before is not None:
        before = kept.before.thing
        return [COLOURS.index(before.colour), SHAPES.index(before.shape), is_new, *nothing]
    return [IGNORE, IGNORE, is_new, *nothing]


def _named_hints(conversation: ClipDialogue, tokenizer: Tokenizer) -> list[list[int]]:
    """Returns targets for a conversation's tokens: the attributes that its question names, from their words on."""
    words = [tokenizer.id_to_token(i) for i in conversation.question]
    naming_words = words if "it" not in words else (conversation.key or "").removeprefix("after ").split()
    named = [next((GROUPS[group].index(w) for w in naming_words if w in GROUPS[group]), IGNORE) for group in NAMED]
    places = [i for i, w in enumerate(words) if any(w in GROUPS[group] for group in NAMED)]
    known_from = len(conversation.past) + (max(places) if places else len(words) - 2)
    n_tokens = len(conversation.past) + len(words) + len(conversation.answer)
    return [[IGNORE] * 3 + (named if i >= known_from else [IGNORE] * len(NAMED)) for i in range(n_tokens)]


def _mask(clip: Clip, block: np.ndarray, talk: np.ndarray) -> np.ndarray:
    """Returns a mask that is True where token i may attend to token j."""
    s, n_blocks = len(block), len(clip.kept)
    causal = np.tril(np.ones((s, s), bool))
    reach = np.zeros((len(clip.conversations) + n_blocks, n_blocks + 1), bool)  # what each may see; last: opening
    reach[:, -1] = True
    window = 8 + int(len(clip.kept) % 4)
    for i in range(n_blocks):
        reach[i, max(0, i - window) : i + 1] = True
    for c, conversation in enumerate(clip.conversations):
        reach[n_blocks + c, :n_blocks] = conversation.visible
    viewer = np.where(talk >= 0, n_blocks + talk, np.where(block >= 0, block, -1))
    allowed = reach[viewer][:, block]  # block -1 is the opening's column
    allowed[:, talk >= 0] = False
    allowed |= (talk[:, None] == talk[None, :]) & (talk[:, None] >= 0)
    opening = (block < 0) & (talk < 0)
    allowed[np.ix_(opening, ~opening)] = False
    return allowed & causal


def _answering(clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
    """Returns, for every probe in the batch, which of all blocks answer it and which certainly do not."""
    keys = [k.keys for clip in clips for k in clip.kept]
    holders: dict[str, list[int]] = {}
    for i, held in enumerate(keys):
        for key in held:
            holders.setdefault(key, []).append(i)
    positive, negative = [], []
    first = 0
    for clip in clips:
        for conversation in clip.conversations:
            if not conversation.probe:
                continue
            assert conversation.key is not None
            right = np.zeros(len(keys), bool)
            right[[first + i for i in conversation.answering]] = True
            wrong = np.ones(len(keys), bool)
            wrong[holders.get(conversation.key, [])] = False
            if conversation.kind in ("when", "seen", "word_when"):
                # Later blocks of the same appearance are worse answers than its first.
                own = [first + i for i in range(len(clip.kept)) if conversation.key in clip.kept[i].keys]
                wrong[own] = True
            # Blocks after the question do not exist yet.
            wrong[first + conversation.now + 1 : first + len(clip.kept)] = False
            wrong &= ~right
            positive.append(right)
            negative.append(wrong)
        first += len(clip.kept)
    return torch.from_numpy(np.array(positive)), torch.from_numpy(np.array(negative))
