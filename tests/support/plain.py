"""The plain reference of the oracles: attention recomputed over exactly the kept tokens, at their new positions.

It goes token by token, layer by layer, head by head, with the weights of a stock decoder, and of its code only norms
and projections; rotary embedding is written out as complex numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamvlm.decoding.context import KeyValues
from streamvlm.decoding.decoder import StreamDecoder
from streamvlm.memory.block import Positions
from streamvlm.models.base import FrameTokens

WINDOW = 2


@dataclass(frozen=True)
class Part:
    """Kept tokens: for each layer, raw key (K, D) and value (K, D) of each token; and their positions."""

    layers: list[list[tuple[Tensor, Tensor]]]
    positions: Positions | None = None

    def __len__(self) -> int:
        return len(self.layers[0])

    def payload(self) -> Tensor:
        """(L, 2, K, N, D), as the decoder gives it."""
        return torch.stack(
            [torch.stack([torch.stack(part, dim=1) for part in zip(*layer, strict=True)]) for layer in self.layers]
        )


def places_of(parts: Sequence[tuple[int, Positions | None]]) -> Tensor:
    """Returns the coordinates (3, N) of parts, each beginning where the one before ended."""
    begin, places = 0, []
    for n_tokens, positions in parts:
        own = positions.axes if positions else torch.arange(n_tokens).expand(3, -1)
        places.append(begin + own)
        begin += positions.extent if positions else n_tokens
    return torch.cat(places, dim=1)


def angles_of(config: Any, places: Tensor) -> Tensor:
    """Returns rotary angles (N, D / 2) at places (3, N); with several axes, each frequency follows one."""
    rope = config.rope_parameters
    half = (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads) // 2
    sections = rope.get("mrope_section", [half, 0, 0])
    if rope.get("mrope_interleaved"):  # time, height, width in turn, while height and width have any left
        axes = [i % 3 if i < 3 * sections[i % 3] else 0 for i in range(half)]
    else:
        axes = [axis for axis, n in enumerate(sections) for _ in range(n)]
    frequencies = rope["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angles: Tensor = places[axes].T * frequencies
    return angles


def turned(vectors: Tensor, angles: Tensor) -> Tensor:
    """Applies rotary embedding to vectors (N, D) by angles (N, D / 2): pairs of halves are complex numbers."""
    first, second = vectors.double().chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=-1).float()


def plain_pass(text_model: Any, new: FrameTokens, kept: Sequence[Part]) -> tuple[Tensor, Part]:
    """Returns the last hidden states (N, E) of new tokens behind kept ones, and their keys and values."""
    config = text_model.config
    n_heads, n_kv_heads = config.num_attention_heads, config.num_key_value_heads
    places = places_of([*((len(part), part.positions) for part in kept), (len(new), new.positions)])
    seen = [[token for part in kept for token in part.layers[i]] for i in range(len(text_model.layers))]
    n_before, outputs = len(seen[0]), []
    for n, hidden in enumerate(new.embeddings):
        angles = angles_of(config, places[:, : n_before + n + 1]).to(hidden.device)
        for level, (layer, tokens) in enumerate(zip(text_model.layers, seen, strict=True)):
            normed, own = layer.input_layernorm(hidden), layer.self_attn
            queries, keys = own.q_proj(normed).view(n_heads, -1), own.k_proj(normed).view(n_kv_heads, -1)
            if hasattr(own, "q_norm"):
                queries, keys = own.q_norm(queries), own.k_norm(keys)
            tokens.append((keys, own.v_proj(normed).view(n_kv_heads, -1)))
            heads = []
            for head, query in enumerate(queries):
                kv = head * n_kv_heads // n_heads
                asked = turned(query[None], angles[-1:])
                known = turned(torch.stack([key[kv] for key, _ in tokens]), angles)
                weights = (known @ asked[0] / math.sqrt(len(query))).softmax(0)
                heads.append(weights @ torch.stack([value[kv] for _, value in tokens]))
            hidden = hidden + own.o_proj(torch.cat(heads))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
            if new.deepstack is not None and level < len(new.deepstack):
                hidden = hidden + new.deepstack[level, n]
        outputs.append(text_model.norm(hidden))
    return torch.stack(outputs), Part([tokens[n_before:] for tokens in seen], new.positions)


def split(part: Part, frames: Sequence[FrameTokens]) -> list[Part]:
    """The parts of the frames that were prefilled together."""
    stops = [sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    return [
        Part([layer[stop - len(frame) : stop] for layer in part.layers], frame.positions)
        for stop, frame in zip(stops, frames, strict=True)
    ]


@torch.inference_mode()
def assert_equals_attention_written_out(
    decoder: StreamDecoder, plain_model: Any, opening: Tensor, frames: Sequence[FrameTokens], said: Sequence[Tensor]
) -> None:
    """Checks oracle 2: chunks of two frames past the window, then retrieval, dialogue and question.

    Args:
        decoder: Ours.
        plain_model: The stock decoder stack with the same weights, which ours has not adopted.
        opening: (N, E).
        frames: An even number of them, at least 8.
        said: Dialogue and question, each (N, E).
    """
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    _, plain_sinks = plain_pass(plain_model, FrameTokens(opening), [])
    blocks: list[KeyValues] = []
    plain_blocks: list[Part] = []
    for i in range(0, len(frames), 2):
        pair = frames[i : i + 2]
        chunk = FrameTokens.join(pair)
        context = decoder.context_of([KeyValues(sinks), *blocks[-WINDOW:]], len(chunk))
        hidden, payload = decoder.prefill(
            chunk.embeddings, context, positions=chunk.positions, deepstack=chunk.deepstack
        )
        expected, new = plain_pass(plain_model, chunk, [plain_sinks, *plain_blocks[-WINDOW:]])
        torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(payload, new.payload(), rtol=0, atol=1e-4)
        parts = torch.split(payload, [len(frame) for frame in pair], dim=-2)
        blocks += [KeyValues(part, None, frame.positions) for part, frame in zip(parts, pair, strict=True)]
        plain_blocks += split(new, pair)

    chosen = [0, 3, len(frames) - 2, len(frames) - 1]
    context = decoder.context_of([KeyValues(sinks), *(blocks[i] for i in chosen)], sum(map(len, said)))
    ours = torch.cat([decoder.prefill(words, context)[0] for words in said])
    plain, _ = plain_pass(
        plain_model, FrameTokens(torch.cat(list(said))), [plain_sinks, *(plain_blocks[i] for i in chosen)]
    )
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-4)


@torch.inference_mode()
def blocks_of_a_loop(
    decoder: StreamDecoder, opening: Tensor, scenes: Sequence[FrameTokens], n_blocks: int
) -> list[KeyValues]:
    """Makes oracle 4's stream: the same few frames again and again, each behind sinks and window."""
    _, sinks = decoder.prefill(opening, decoder.new_context(len(opening)))
    blocks: list[KeyValues] = []
    for i in range(n_blocks):
        frame = scenes[i % len(scenes)]
        context = decoder.context_of([KeyValues(sinks), *blocks[-WINDOW:]], len(frame))
        _, payload = decoder.prefill(frame.embeddings, context, positions=frame.positions, deepstack=frame.deepstack)
        blocks.append(KeyValues(payload, None, frame.positions))
    return blocks
