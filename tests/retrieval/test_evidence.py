from __future__ import annotations

import pytest

from streamvlm.frame import Fidelity
from streamvlm.memory.block import KVBlock
from streamvlm.retrieval.evidence import Evidence, rank_evidence

BLOCKS = [KVBlock(i, float(i), i + 0.5, Fidelity.FUZZY, 0.0, 9) for i in range(8)]


def test_evidence_is_ranked_by_its_share_and_small_shares_are_left_out() -> None:
    ranked = rank_evidence(BLOCKS[:4], [0.02, 0.5, 0.28, 0.2])
    assert ranked[0] == Evidence(1.0, 1.5, Fidelity.FUZZY, 0.5, 1)
    assert [evidence.start_s for evidence in ranked] == [1.0, 2.0, 3.0]


def test_shares_do_not_depend_on_the_unit_and_ties_go_to_the_newer_block() -> None:
    ranked = rank_evidence(BLOCKS, [40.0] * 8, most=3)
    assert [(evidence.start_s, evidence.score) for evidence in ranked] == [(7, 0.125), (6, 0.125), (5, 0.125)]


@pytest.mark.parametrize("blocks", [[], BLOCKS[:2]])
def test_without_any_attention_there_is_no_evidence(blocks: list[KVBlock]) -> None:
    assert rank_evidence(blocks, [0.0] * len(blocks)) == []


def test_what_is_in_no_block_has_no_blocks_id() -> None:
    now = KVBlock(-1, 8.0, 8.0, Fidelity.CLEAR, 0.0, 0)
    assert [evidence.block_id for evidence in rank_evidence([*BLOCKS[:2], now], [1.0, 2.0, 3.0])] == [None, 1, 0]
