"""The oracles, for every real family: the unmodified Hugging Face model, and attention written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fabricate import QUESTION, tokenizer_of
from generating import generated
from pairs import Pair, pictures
from plain import WINDOW, assert_equals_attention_written_out, blocks_of_a_loop

from streamvlm.decoding.context import KeyValues
from streamvlm.frame import Fidelity
from streamvlm.models.base import FrameTokens
from streamvlm.models.registry import footprint_of
from streamvlm.retrieval.attention_mass import AttentionMassScorer
from streamvlm.retrieval.heads import RetrievalHead

TIMES_S = [0.0, 7.0, 61.5, 3725.0]


def whole_prompt(pair: Pair, chunks: list[int]) -> list[FrameTokens]:
    """Opening, frames put together in chunks of so many, question."""
    frames = pair.frames(pictures(len(TIMES_S)), TIMES_S)
    parts = [FrameTokens(pair.ours.opening_tokens())]
    for n_frames in chunks:
        parts.append(FrameTokens.join([frames.pop(0) for _ in range(n_frames)]))
    return [*parts, FrameTokens(pair.ours.question_tokens(QUESTION))]


@pytest.mark.parametrize("chunks", [[4], [1, 1, 1, 1], [3, 1]], ids=str)
@torch.inference_mode()
def test_while_nothing_is_evicted_logits_are_the_stock_models(pair: Pair, chunks: list[int]) -> None:
    expected = pair.stock(**pair.stock_inputs(pictures(4), TIMES_S, [QUESTION])).logits[0]
    parts = whole_prompt(pair, chunks)
    context = pair.decoder.new_context(sum(map(len, parts)))
    hidden = [
        pair.decoder.prefill(p.embeddings, context, positions=p.positions, deepstack=p.deepstack)[0] for p in parts
    ]
    assert context.n_tokens == len(expected), "our tokens are those of the family's own prompt"
    torch.testing.assert_close(pair.decoder.logits(torch.cat(hidden)), expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_frame_a_tick_before_a_whole_second_is_told_as_of_it(pair: Pair) -> None:
    whole_s = [1.0, 60.0, 3725.0]
    told = (pair.frames(pictures(1) * 3, times_s) for times_s in (whole_s, [at_s - 1 / 90_000 for at_s in whole_s]))
    for exact, early in zip(*told, strict=True):
        assert torch.equal(early.embeddings, exact.embeddings)


def test_greedy_answers_are_the_stock_models_for_32_tokens(pair: Pair) -> None:
    *parts, question = whole_prompt(pair, [2, 2])
    inputs = pair.stock_inputs(pictures(4), TIMES_S, [QUESTION])
    n_prompt = inputs["input_ids"].shape[1]
    written = pair.stock.generate(**inputs, max_new_tokens=32, do_sample=False, eos_token_id=-1)[0, n_prompt:].tolist()
    decoder = pair.decoder
    context = decoder.new_context(n_prompt + 32)
    for part in parts:
        decoder.prefill(part.embeddings, context, positions=part.positions, deepstack=part.deepstack)
    ids = list(generated(decoder, decoder.generate(question.embeddings, context, max_tokens=32)))
    assert ids == written
    assert len(set(ids)) > 3, "a model that says one thing only proves little"


@torch.inference_mode()
def test_a_follow_up_question_meets_the_markup_of_the_familys_own_dialogue(pair: Pair) -> None:
    *parts, question = whole_prompt(pair, [4])
    said = [QUESTION, " a red cup", "and what before that?"]
    expected = pair.stock(**pair.stock_inputs(pictures(4), TIMES_S, said)).logits[0]
    answer = pair.ours.embed(tokenizer_of(pair.family).encode(said[1]).ids)
    follow_up = pair.ours.question_tokens(said[2], follows_up=True)
    whole = FrameTokens.join([*parts, question, FrameTokens(answer), FrameTokens(follow_up)])
    context = pair.decoder.new_context(len(whole))
    hidden, _ = pair.decoder.prefill(whole.embeddings, context, positions=whole.positions, deepstack=whole.deepstack)
    torch.testing.assert_close(pair.decoder.logits(hidden), expected, rtol=0, atol=1e-4)


def test_past_the_window_attention_is_over_the_kept_tokens_alone(pair: Pair) -> None:
    times_s = [float(i) for i in range(8)]
    frames = pair.frames(pictures(8), times_s)
    said = [pair.ours.question_tokens("what?"), pair.ours.question_tokens("and then?", follows_up=True)]
    assert_equals_attention_written_out(
        pair.decoder, pair.stock.get_decoder(), pair.ours.opening_tokens()[:6], frames, said
    )


@torch.inference_mode()
def test_identical_content_scores_identically_whenever_it_was_seen(pair: Pair) -> None:
    frames = pair.frames(pictures(3), [5.0, 6.0, 7.0])
    decoder, opening = pair.decoder, pair.ours.opening_tokens()
    n_settled = decoder.layout.n_layers * WINDOW
    blocks = blocks_of_a_loop(decoder, opening, frames, n_settled + 12)[n_settled:]
    heads = [RetrievalHead(0, 0), RetrievalHead(decoder.layout.n_layers - 1, 3)]
    scorer = AttentionMassScorer(heads, decoder.n_query_heads, decoder.layout)
    for number, block in enumerate(blocks):
        scorer.add_rows(number, scorer.rows.of(block.payload))
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    asked = pair.ours.question_tokens(QUESTION)
    queries = decoder.probe(asked, decoder.context_of([KeyValues(sinks)], len(asked)), scorer.layers)
    scores = torch.as_tensor(scorer.score(queries, list(range(12)))).reshape(4, 3)
    assert (scores == scores[0]).all()
    assert len(set(scores[0].tolist())) == 3


def test_clear_and_fuzzy_frames_have_the_tokens_that_the_configuration_tells(pair: Pair) -> None:
    (sight,) = pair.ours.see([np.zeros((720, 1280, 3), np.uint8)])
    n_text = len(pair.ours.frame_tokens(sight, 7.0, Fidelity.CLEAR)) - pair.made.n_clear
    assert len(pair.ours.frame_tokens(sight, 7.0, Fidelity.FUZZY)) - n_text == pair.made.n_fuzzy
    told = footprint_of(str(pair.folder), "float32")
    assert told.layout == pair.ours.layout == pair.decoder.layout
    assert told.clear_tokens - told.fuzzy_tokens == pair.made.n_clear - pair.made.n_fuzzy
    assert sight.feature.dtype == torch.float32
    assert sight.feature.ndim == 1
