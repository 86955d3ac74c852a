"""Training clips: the mask never shows the future, and every target is what the blocks in view say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamvlm.models.families.pocket import CHECKPOINT
from streamvlm.models.families.pocket.prompt import OPENING
from streamvlm.models.families.pocket.vocabulary import END, build_tokenizer
from streamvlm.training.clips import Clip, make_clip
from streamvlm.training.tensors import IGNORE, Batch, make_batch
from streamvlm.training.train_decoder import WEIGHTS, new_decoder, resume

TOKENIZER = build_tokenizer()
N_OPENING = len(TOKENIZER.encode(OPENING, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    rng = np.random.default_rng(3)
    return [make_clip(rng, TOKENIZER, start_s=600.0, n_blocks=9, noise=1.0) for _ in range(3)]


@pytest.fixture(scope="module")
def batch(clips: list[Clip]) -> Batch:
    return make_batch(clips, TOKENIZER)


def test_nothing_attends_to_what_comes_later(batch: Batch) -> None:
    assert not batch.mask.triu(1).any()


def test_a_conversation_sees_no_block_after_its_moment_and_no_other_conversation(
    clips: list[Clip], batch: Batch
) -> None:
    answers = iter(batch.answers)
    first = 0
    for b, clip in enumerate(clips):
        for conversation in clip.conversations:
            if conversation.probe:
                continue
            _, start, stop, _ = next(answers)
            seen = batch.block[b][batch.mask[b, 0, start]]
            numbers = seen[seen >= 0] - first
            assert set(numbers.tolist()) == set(np.flatnonzero(conversation.visible).tolist())
            assert numbers.max() <= conversation.now
            begin = start + 1 - len(conversation.past) - len(conversation.question)
            others = batch.block[b, :begin] < 0
            others[:N_OPENING] = False
            assert not batch.mask[b, 0, stop - 1, :begin][others].any()
        first += len(clip.kept)


def test_every_answer_ends_and_stands_in_a_block_in_view(batch: Batch) -> None:
    for b, _, stop, _ in batch.answers:
        assert batch.labels[b, stop - 1] == END
        assert batch.labels[b, stop] == IGNORE
    for (b, token), stands in zip(batch.reading.tolist(), batch.source, strict=True):
        assert stands.any()
        assert batch.mask[b, 0, token][stands].all()


def test_a_blocks_that_answers_is_never_also_wrong(batch: Batch) -> None:
    assert batch.positive.any(-1).all()
    assert not (batch.positive & batch.negative).any()


def test_training_takes_up_the_shipped_checkpoint() -> None:
    model, other = new_decoder(), new_decoder()
    resume(model, CHECKPOINT)
    resume(other, CHECKPOINT)
    shipped, again = model.llama.state_dict(), other.llama.state_dict()
    assert all(torch.equal(shipped[name], again[name]) for name in shipped)


def test_one_step_lowers_every_loss_of_its_own_batch(batch: Batch) -> None:
    torch.manual_seed(0)
    model = new_decoder()
    model.begin_from_words()
    model.begin_as_memory()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before, _ = model(batch)
    for _ in range(4):
        losses, _ = model(batch)
        optimiser.zero_grad()
        torch.stack([WEIGHTS[k] * v for k, v in losses.items()]).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after, _ = model(batch)
    assert set(after) <= set(WEIGHTS)
    assert all(after[name] < before[name] for name in ("answer", "retrieval", "reading"))
