"""Ranks the heads of a model by how well they find the evidence, on trials whose right block is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamvlm.retrieval.heads import RetrievalHead

MOST_HEADS = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """A question that one of several blocks answers.

    Attributes:
        queries: For each layer to calibrate, the question's raw queries (H, Q, D).
        payloads: The blocks' raw payloads, each (L, 2, K, N, D).
        right: Index of the block that answers.
    """

    queries: Mapping[int, Tensor]
    payloads: Sequence[Tensor]
    right: int


@dataclass(frozen=True, slots=True)
class HeadRank:
    """How well a head finds the right block: share of trials that rank it first, and mean of 1 / its rank."""

    head: RetrievalHead
    first: float
    reciprocal: float


def rank_retrieval_heads(trials: Sequence[Trial]) -> list[HeadRank]:
    """Ranks all heads of the trials' layers, best first: by ``first``, then by ``reciprocal``.

    A block's score is the head's attention mass on it, without positions: softmax over the tokens of all
    blocks, for the question's last token. Of equal scores the right block's comes last.
    """
    ranks = []
    for layer in trials[0].queries:
        found = torch.stack([_rank_of(_masses(trial, layer), trial.right) for trial in trials]).double()
        for head, own in enumerate(found.T):
            first, reciprocal = float((own == 1).double().mean()), float((1 / own).mean())
            ranks.append(HeadRank(RetrievalHead(layer, head), first, reciprocal))
    return sorted(ranks, key=lambda rank: (-rank.first, -rank.reciprocal, rank.head))


def keep_smallest(ranks: Sequence[HeadRank], trials: Sequence[Trial]) -> tuple[RetrievalHead, ...]:
    """Returns the fewest best heads that rank the right block first as often as any number up to ``MOST_HEADS``.

    Heads join in the order of their ranks; a block's score is the maximum over the heads.
    """
    heads = [rank.head for rank in ranks[:MOST_HEADS]]
    n_first = torch.zeros(len(heads), dtype=torch.long)
    for trial in trials:
        masses = torch.stack([_masses(trial, head.layer)[head.head] for head in heads]).cpu()
        n_first += _rank_of(masses.cummax(0).values, trial.right) == 1
    return tuple(heads[: int(n_first.argmax()) + 1])


def _masses(trial: Trial, layer: int) -> Tensor:
    """Returns the attention mass (H, blocks) float32 of a layer's heads."""
    keys = torch.cat([payload[layer, 0] for payload in trial.payloads], dim=1).float()
    queries = (
        trial.queries[layer][:, -1].float().reshape(len(keys), -1, keys.shape[-1])
    )  # heads that share a key together
    weights = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(-1).flatten(0, 1)
    parts = torch.split(weights, [payload.shape[-2] for payload in trial.payloads], dim=-1)
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def _rank_of(masses: Tensor, right: int) -> Tensor:
    """Returns the rank, from 1, of the right block in each row of masses (rows, blocks)."""
    return (masses >= masses[:, right, None]).sum(-1)
