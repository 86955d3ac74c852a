"""What a forward pass does in the layers' attention: extend contexts, one or several, only look at one, be watched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from streamvlm.decoding.context import Context
from streamvlm.decoding.rotary import rotate
from streamvlm.memory.block import Positions
from streamvlm.retrieval.heads import RetrievalHead


class AttentionWatch:
    """Sums the attention that some heads pay to each token now in a context, over the passes to come.

    Only these heads' weights are computed, beside the attention itself.
    """

    def __init__(self, heads: Collection[RetrievalHead], context: Context) -> None:
        self._heads: dict[int, list[int]] = defaultdict(list)
        for head in heads:
            self._heads[head.layer].append(head.head)
        self._spans = tuple(context.spans)
        self._mass = torch.zeros(context.n_tokens, device=context.device)
        self._n_rows = 0

    def observe(self, layer: int, query: Tensor, keys: Tensor, scaling: float) -> None:
        """Counts rotated queries (H, N, D) over rotated keys (K, T, D), causal among the last N."""
        if layer not in self._heads:
            return
        heads = self._heads[layer]
        group = len(query) // len(keys)  # query heads that share a KV head
        logits = query[heads].float() @ keys[[head // group for head in heads]].float().mT * scaling  # (heads, N, T)
        n_new, n_all = logits.shape[1:]
        future = torch.ones(n_new, n_all, dtype=torch.bool, device=logits.device).triu(1 + n_all - n_new)
        rows = logits.masked_fill(future, -torch.inf).softmax(-1).flatten(0, 1)  # (heads x N, T)
        self._mass += rows[:, : len(self._mass)].sum(0)
        self._n_rows += len(rows)

    def masses(self) -> dict[int, float]:
        """Returns the share of a token's attention on each block, mean over heads and tokens: id to [0, 1]."""
        mean = self._mass / max(self._n_rows, 1)
        spans = ((span.block_id, mean[span.start : span.stop]) for span in self._spans)
        return {block_id: float(part.sum()) for block_id, part in spans if block_id is not None}


class ContextExtension:
    """New tokens attend to all of a context and, causally, to each other.

    Attributes:
        n_tokens: How many are new.
        payload: (L, 2, K, N, D) raw keys and values of the new tokens, filled layer by layer.
    """

    def __init__(
        self,
        context: Context,
        n_tokens: int,
        watch: AttentionWatch | None = None,
        positions: Positions | None = None,
    ) -> None:
        self.n_tokens = n_tokens
        self._context, self._watch = context, watch
        self._turns = context.turns(n_tokens, positions)
        self.payload = context.empty_payload(n_tokens)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Does a layer's attention.

        Args:
            layer: Counted from 0.
            query: (H, N, D) raw, that is before rotary embedding.
            key: (K, N, D) raw.
            value: (K, N, D).
            scaling: Factor of query . key before the softmax.

        Returns:
            (H, N, D), the heads' outputs.
        """
        self.payload[layer, 0], self.payload[layer, 1] = key, value
        query = rotate(query, self._turns)
        keys, values = self._context.write(layer, rotate(key, self._turns), value)  # (K, T, D), T with the context's
        if self._watch:
            self._watch.observe(layer, query, keys, scaling)
        causal = causal_lower_right(query.shape[1], keys.shape[1])
        return F.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=causal, scale=scaling, enable_gqa=True
        )[0]


class Packed:
    """Extensions of several contexts in one pass: their tokens lie one after another and do not see each other."""

    def __init__(self, extensions: Sequence[ContextExtension]) -> None:
        self._extensions = extensions
        self._sizes = [extension.n_tokens for extension in extensions]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See ``ContextExtension.attend``; N counts the tokens of all."""
        queries, keys, values = (torch.split(given, self._sizes, dim=1) for given in (query, key, value))
        outputs = [
            extension.attend(layer, queries[i], keys[i], values[i], scaling)
            for i, extension in enumerate(self._extensions)
        ]
        return torch.cat(outputs, dim=1)


class DeepEnoughError(Exception):
    """Ends a probe's forward pass, as the layers above have nothing to tell: control flow, no failure."""


class Probe(ContextExtension):
    """Takes the raw queries (H, N, D) of some layers and ends at the deepest of them."""

    def __init__(self, context: Context, n_tokens: int, layers: Collection[int]) -> None:
        super().__init__(context, n_tokens)
        self._layers = layers
        self.queries: dict[int, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """See ``ContextExtension.attend``; raises ``DeepEnoughError`` at the deepest layer."""
        if layer in self._layers:
            self.queries[layer] = query
        if layer == max(self._layers):
            raise DeepEnoughError
        return super().attend(layer, query, key, value, scaling)
