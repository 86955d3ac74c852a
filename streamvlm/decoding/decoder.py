"""An unmodified decoder stack that reads streams: encodes chunks, probes with questions, answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamvlm.decoding.attention_function import IMPLEMENTATION, forward_stream
from streamvlm.decoding.context import Context, KeyValues
from streamvlm.decoding.forward_passes import AttentionWatch, ContextExtension, DeepEnoughError, Packed, Probe
from streamvlm.decoding.rotary import Rotary
from streamvlm.memory.block import BlockLayout, Positions
from streamvlm.retrieval.heads import RetrievalHead


@dataclass(frozen=True, slots=True)
class Addition:
    """New tokens for the end of a context.

    Attributes:
        embeddings: (N, E); each token attends to the context and to those before it.
        context: Its end grows by N tokens.
        watch: Counts some heads' attention.
        positions: Where the tokens stand; by default one behind the other.
        deepstack: (levels, N, E) features that the first layers add to their outputs, where a model has them.
        predicts: Whether the logits of what comes next are wanted.
    """

    embeddings: Tensor
    context: Context
    watch: AttentionWatch | None = None
    positions: Positions | None = None
    deepstack: Tensor | None = None
    predicts: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """The result of an addition.

    Attributes:
        hidden: Last hidden states (N, E).
        payload: (L, 2, K, N, D) raw keys and values of the new tokens.
        logits: (vocabulary,) after the last of them, where wanted.
    """

    hidden: Tensor
    payload: Tensor
    logits: Tensor | None


class StreamDecoder:
    """A language model over contexts.

    Args:
        text_model: A transformers decoder stack (``LlamaModel``, ``Qwen2Model``, ...); from now on it attends
            through our seam, and can be called through here only.
        output_head: Maps its hidden states (..., E) to logits (..., vocabulary).

    Attributes:
        layout: Of the payloads it makes and takes.
        n_query_heads: Query heads of a layer.

    Raises:
        ModelError: If the model's rotary embedding cannot stream.
    """

    def __init__(self, text_model: Any, output_head: Any) -> None:
        config = text_model.config
        n_heads = self.n_query_heads = int(config.num_attention_heads)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // n_heads
        n_layers, n_kv_heads = config.num_hidden_layers, config.num_key_value_heads
        self.layout = BlockLayout(n_layers, n_kv_heads, head_dim, text_model.dtype)
        self._rotary = Rotary(text_model)
        self._text_model, self._output_head = text_model, output_head
        text_model.set_attn_implementation(IMPLEMENTATION)

    def new_context(self, capacity: int) -> Context:
        """Makes an empty context for up to so many tokens."""
        return Context(self.layout, self._rotary, capacity, self._text_model.device)

    def context_of(self, kept: Sequence[KeyValues], room: int) -> Context:
        """Makes a context of these, in order, with room for so many tokens more."""
        context = self.new_context(sum(one.payload.shape[-2] for one in kept) + room)
        context.append(*kept)
        return context

    @torch.inference_mode()
    def extend(self, additions: Sequence[Addition]) -> list[Read]:
        """Runs new tokens of several contexts in one pass, each as if it were alone, and adds them.

        Args:
            additions: To contexts that differ; at least one. ValueError if a context has no room.
        """
        sizes = [len(addition.embeddings) for addition in additions]
        extensions = [
            ContextExtension(a.context, n, a.watch, a.positions) for a, n in zip(additions, sizes, strict=True)
        ]
        tokens = torch.cat([addition.embeddings for addition in additions])  # (N, E), N tokens of all additions
        output = forward_stream(self._text_model, tokens, Packed(extensions), _join_deepstack(additions))
        hidden = torch.split(output, sizes)  # (N, E) of each addition
        for addition, n_tokens in zip(additions, sizes, strict=True):
            addition.context.take_in(n_tokens, addition.positions)
        last = [own[-1] for own, addition in zip(hidden, additions, strict=True) if addition.predicts]  # (E,) each
        logits = iter(self.logits(torch.stack(last)) if last else ())  # (vocabulary,) each
        return [
            Read(own, extension.payload, next(logits) if addition.predicts else None)
            for own, extension, addition in zip(hidden, extensions, additions, strict=True)
        ]

    def prefill(
        self,
        embeddings: Tensor,
        context: Context,
        *,
        positions: Positions | None = None,
        deepstack: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Adds new tokens, one or those of several frames, to one context (see ``Addition``).

        Returns:
            Last hidden states (N, E) and the raw payload (L, 2, K, N, D).
        """
        (read,) = self.extend([Addition(embeddings, context, positions=positions, deepstack=deepstack)])
        return read.hidden, read.payload

    @torch.inference_mode()
    def probe(self, embeddings: Tensor, context: Context, layers: Collection[int]) -> dict[int, Tensor]:
        """Returns the raw queries (H, N, D) of some layers; those above the deepest of them never run.

        Args:
            embeddings: (N, E) of a question.
            context: Left as it is, but needs room for N more tokens.
            layers: At least one.
        """
        probe = Probe(context, len(embeddings), layers)
        with suppress(DeepEnoughError):
            forward_stream(self._text_model, embeddings, probe)
        return probe.queries

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Maps hidden states (..., E) to logits (..., vocabulary)."""
        logits: Tensor = self._output_head(hidden)
        return logits

    @torch.inference_mode()
    def embed(self, token: int) -> Tensor:
        """Returns the embedding (1, E) of a token id."""
        ids = torch.tensor([token], device=self._text_model.device)
        embedding: Tensor = self._text_model.get_input_embeddings()(ids)
        return embedding

    def generate(
        self,
        question: Tensor,
        context: Context,
        *,
        max_tokens: int,
        stop_ids: Collection[int] = (),
        heads: Collection[RetrievalHead] = (),
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> Generation:
        """Begins an answer (see ``Generation``).

        Args:
            question: (N, E) embeddings, up to where the answer begins.
            context: With room for the question and ``max_tokens`` more.
            max_tokens: Most tokens of the answer.
            stop_ids: Tokens that end the answer; they are neither given out nor read.
            heads: Whose attention to the context's blocks is the evidence.
            temperature: 0 takes the likeliest token.
            seed: Makes sampling repeatable.
        """
        watch = AttentionWatch(heads, context)
        return Generation(self, question, context, watch, _sampler(temperature, seed), max_tokens, stop_ids)


class Generation:
    """An answer under way, a forward pass a token.

    Run ``addition`` (``StreamDecoder.extend``), alone or in one pass with those of other answers, give its result to
    ``take``, and so on until there is none. Then the context holds the question and the answer, but no stop token: what
    follows up begins with one, whether the answer came to its end or was cut.

    Attributes:
        addition: What is to be read next; None when the answer has ended.
        is_cut: Whether it has ended at its longest, and would have gone on.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        question: Tensor,
        context: Context,
        watch: AttentionWatch,
        pick: Callable[[Tensor], int],
        max_tokens: int,
        stop_ids: Collection[int],
    ) -> None:
        self._decoder, self._context, self._watch = decoder, context, watch
        self._pick, self._left, self._stop_ids = pick, max_tokens, stop_ids
        self._payloads: list[Tensor] = []
        self.is_cut = False
        self.addition: Addition | None = self._reading(question)

    @property
    def payload(self) -> Tensor:
        """Raw payload (L, 2, K, N, D) of what the context holds of question and answer, to be kept."""
        return torch.cat(self._payloads, dim=-2)

    @property
    def evidence(self) -> dict[int, float]:
        """Each block's share of the retrieval heads' attention, mean over the tokens so far."""
        return self._watch.masses()

    def take(self, read: Read) -> int | None:
        """Takes the result of ``addition``; returns the answer's next token id, or None if the answer has ended."""
        self._payloads.append(read.payload)
        self.addition = None
        assert read.logits is not None, "every reading of an answer predicts"
        # After the last one too: only that tells an answer that is whole from a cut one.
        token = self._pick(read.logits)
        if token in self._stop_ids:
            return None
        if self._left == 0:
            self.is_cut = True
            return None
        self._left -= 1
        self.addition = self._reading(self._decoder.embed(token))
        return token

    def _reading(self, embeddings: Tensor) -> Addition:
        return Addition(embeddings, self._context, self._watch, predicts=True)


def _join_deepstack(additions: Sequence[Addition]) -> Tensor | None:
    """Returns the features (levels, N, E) of all additions, 0 for those without; None if none has any."""
    given = next((addition.deepstack for addition in additions if addition.deepstack is not None), None)
    if given is None:
        return None
    return torch.cat(
        [given.new_zeros(len(given), *a.embeddings.shape) if a.deepstack is None else a.deepstack for a in additions],
        dim=1,
    )


def _sampler(temperature: float, seed: int | None) -> Callable[[Tensor], int]:
    """Returns a function that picks an id from logits (vocabulary,)."""
    generator = torch.Generator()
    generator.manual_seed(generator.seed() if seed is None else seed)

    def pick(logits: Tensor) -> int:
        if temperature == 0:
            return int(logits.argmax())
        chances = (logits.float().cpu() / temperature).softmax(-1)
        return int(torch.multinomial(chances, 1, generator=generator))

    return pick
