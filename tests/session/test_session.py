"""A session: snapshots, dialogue, budgets, and equality with the unmodified model where everything is in view."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from streamvlm.errors import MemoryBudgetError, UsageError
from streamvlm.frame import Fidelity, Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import World

WHERE = "where was the {}?"


def watched(model: VideoLanguageModel, frames: list[Frame], **settings: Any) -> Session:
    session = Session(model, SessionConfig(**settings))
    session.observe(frames)
    return session


@pytest.fixture(scope="module")
def session(pocket: VideoLanguageModel, frames: list[Frame]) -> Session:
    return watched(pocket, frames)


def test_onsets_are_kept_and_stillness_is_not(session: Session, world: World) -> None:
    starts = [block.start_s for block in session.blocks()]
    for shown in world.appearances:
        assert any(shown.start_s <= s <= shown.start_s + 2 for s in starts), f"{shown} left no block at its start"
    assert len(starts) < 0.5 * 90
    assert session.log.counts[Fidelity.DISCARDED] == 90 - len(starts)


def test_blocks_stand_for_the_discarded_frames_after_them(session: Session) -> None:
    blocks = session.blocks()
    assert all(b.start_s <= b.end_s < after.start_s for b, after in pairwise(blocks))
    assert blocks[-1].end_s == 89
    assert sum(after.start_s - b.end_s for b, after in pairwise(blocks)) == len(blocks) - 1


def test_with_everything_in_view_answers_equal_the_unmodified_models(
    pocket: VideoLanguageModel, frames: list[Frame]
) -> None:
    session = watched(pocket, frames[:40], window_blocks=1000, chunk_frames=40)
    question = "what do you see now?"
    said = session.ask(question, out_of_band=True).answer
    embeddings = [pocket.opening_tokens()]
    decisions = {d.time_s: d.fidelity for d in session.log}
    for sight, frame in zip(pocket.see([f.picture for f in frames[:40]]), frames[:40], strict=True):
        if decisions[frame.time_s] is not Fidelity.DISCARDED:
            embeddings.append(pocket.frame_tokens(sight, frame.time_s, decisions[frame.time_s]).embeddings)
        newest = sight, frame.time_s
    if decisions[newest[1]] is not Fidelity.CLEAR:
        embeddings.append(pocket.frame_tokens(*newest, Fidelity.CLEAR).embeddings)
    embeddings.append(pocket.question_tokens(question))
    assert said.text == greedy(pocket, torch.cat(embeddings))


def greedy(model: VideoLanguageModel, embeddings: torch.Tensor) -> str:
    """Greedy decoding by the stock model with its own positions, mask and attention."""
    model.text_model.set_attn_implementation("sdpa")
    ids: list[int] = []
    with torch.inference_mode():
        while len(ids) < 30:
            hidden = model.text_model(inputs_embeds=embeddings[None]).last_hidden_state[0, -1]
            token = int(model.output_head(hidden).argmax())
            if token in model.stop_ids:
                break
            ids.append(token)
            embeddings = torch.cat([embeddings, model.embed([token])])
    model.text_model.set_attn_implementation("streamvlm")
    return model.text(ids)


def test_a_question_sees_no_later_frame(session: Session, world: World) -> None:
    shown = world.appearances[1]
    answer = session.ask(WHERE.format(shown.thing.name), at_s=30.0, out_of_band=True).answer
    assert answer.asked_at_s == 30
    assert answer.evidence
    assert all(seen.start_s <= 30 for seen in answer.evidence)


def test_frames_observed_after_the_question_change_nothing(
    pocket: VideoLanguageModel, frames: list[Frame], world: World
) -> None:
    question = WHERE.format(world.appearances[0].thing.name)
    one, other = (watched(pocket, frames[:50], host_budget_bytes=1 << 20) for _ in range(2))
    undisturbed = one.ask(question).answer
    answering = other.ask(question)
    first = next(answering)
    other.observe(frames[50:])
    assert first + "".join(answering) == undisturbed.text
    assert answering.answer.evidence == undisturbed.evidence


def test_streamed_pieces_add_up_to_the_answer(session: Session) -> None:
    answering = session.ask("when did you see the red circle?", out_of_band=True)
    pieces = list(answering)
    assert "".join(pieces) == answering.answer.text
    assert answering.answer.tokens.answer >= len(pieces) > 0
    assert 0 < answering.answer.timings.ttft_s <= answering.answer.timings.total_s


def test_dialogue_is_seen_by_follow_ups_but_not_out_of_band(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = watched(pocket, frames[:30])
    alone = session.ask("what do you see now?", out_of_band=True).answer.tokens.context
    assert session.ask("what do you see now?", out_of_band=True).answer.tokens.context == alone
    first = session.ask("what do you see now?").answer.tokens
    follow_up = session.ask("and where was it?").answer.tokens
    assert follow_up.context == first.context + first.question + first.answer
    n_alone = len(pocket.question_tokens("and where was it?"))
    assert follow_up.question == n_alone + 1, "it begins with the token that ends the answer before"
    assert session.ask("what do you see now?", out_of_band=True).answer.tokens.context == alone


def test_old_dialogue_is_dropped_within_its_budget(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = watched(pocket, frames[:10], max_dialogue_tokens=40)
    contexts = [session.ask("what do you see now?").answer.tokens.context for _ in range(8)]
    assert max(contexts) <= contexts[0] + 40


def test_a_small_budget_forgets_the_oldest_and_goes_on(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = watched(pocket, frames, host_budget_bytes=600_000, window_blocks=4)
    stats = session.memory
    assert stats.n_forgotten > 0
    assert stats.host_bytes <= 600_000
    assert session.blocks()[-1].end_s == 89
    assert session.ask("what do you see now?").answer.text


def test_a_budget_below_the_window_is_refused_in_one_sentence(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    with pytest.raises(MemoryBudgetError, match="bytes"):
        watched(pocket, frames, host_budget_bytes=100_000)


@pytest.mark.parametrize(
    ("question", "complaint"),
    [("", "empty"), ("   ", "empty"), ("why " * 600, "shorter"), ("what \ud83e?", "half of a letter")],
    ids=["none", "blank", "long", "broken"],
)
def test_bad_questions_are_refused(session: Session, question: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        session.ask(question)


def test_asking_before_anything_was_seen_is_refused(pocket: VideoLanguageModel) -> None:
    with pytest.raises(UsageError, match="Nothing has been seen"):
        Session(pocket).ask("what do you see now?")


def test_time_going_backwards_is_refused_and_nothing_is_lost(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    session = watched(pocket, frames[:20])
    before = session.blocks()
    with pytest.raises(ValueError, match="backwards"):
        session.observe(frames[3])
    assert session.blocks() == before


@pytest.mark.parametrize("setting", [{"window_blocks": 0}, {"top_k": 0}, {"coverage": 0.0}, {"chunk_frames": -1}])
def test_settings_no_stream_can_run_with_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(SessionConfig(), **setting)


def test_two_sessions_on_one_model_do_not_disturb_each_other(pocket: VideoLanguageModel, frames: list[Frame]) -> None:
    alone = watched(pocket, frames[:24]).ask("what do you see now?").answer
    one, other = Session(pocket), Session(pocket)
    for start in range(0, 24, 8):
        one.observe(frames[start : start + 8])
        other.observe(frames[start + 30 : start + 38])
    assert one.ask("what do you see now?").answer.text == alone.text
    assert one.blocks() != other.blocks()
