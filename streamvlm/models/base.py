"""The interface of a model family: pictures in, visual tokens and text tokens out, around a stock decoder.

An adapter knows one family and nothing of memory, gates or sessions. The decoder itself is an unmodified Hugging Face
text model; ``streamvlm.decoding`` runs its attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from streamvlm.frame import Fidelity, Picture
from streamvlm.memory.block import BlockLayout, Positions


@dataclass(frozen=True, slots=True)
class Sight:
    """The result of the vision tower for one picture.

    Attributes:
        feature: (E,) float32, the tower's pooled output, whose trajectory the gate follows.
        detail: From this the family makes visual tokens of any fidelity; its shape is the family's own.
    """

    feature: Tensor
    detail: Tensor


@dataclass(frozen=True, slots=True)
class FrameTokens:
    """A frame's tokens, or those of several, on their way into the decoder.

    Attributes:
        embeddings: (N, E).
        positions: Their positions, for decoders whose positions have several axes; None: one behind the other.
        deepstack: (levels, N, E) features that the decoder's first layers add to their outputs, 0 for text tokens;
            None for families without them.
    """

    embeddings: Tensor
    positions: Positions | None = None
    deepstack: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @classmethod
    def join(cls, frames: Sequence[FrameTokens]) -> FrameTokens:
        """Joins the tokens of several frames of one model, or parts of them, one behind the other."""
        embeddings = torch.cat([frame.embeddings for frame in frames])
        positions = deepstack = None
        if any(frame.positions for frame in frames):
            positions = Positions.join([frame.positions or Positions.of_text(len(frame)) for frame in frames])
        given = next((frame.deepstack for frame in frames if frame.deepstack is not None), None)
        if given is not None:
            none = given.new_zeros(len(given), 1, given.shape[-1])
            features = [none.expand(-1, len(f), -1) if f.deepstack is None else f.deepstack for f in frames]
            deepstack = torch.cat(features, dim=1)
        return cls(embeddings, positions, deepstack)


@dataclass(frozen=True, slots=True)
class Footprint:
    """The size of a kept frame, computed from a checkpoint's configuration alone.

    Attributes:
        layout: Of its keys and values.
        clear_tokens: Tokens of a clear frame's block, its timestamp included.
        fuzzy_tokens: Those of a fuzzy one.
    """

    layout: BlockLayout
    clear_tokens: int
    fuzzy_tokens: int


class VideoLanguageModel(Protocol):
    """The adapter interface of a model family.

    Attributes:
        family: Name of the family, such as ``pocket``.
        name: Name or path of the checkpoint.
        fingerprint: Changes whenever keys and values of this checkpoint would.
        text_model: The unmodified Hugging Face decoder stack.
        output_head: Maps its last hidden states to logits.
        device: Where the decoder runs.
        layout: Shape of one token's keys and values.
        stop_ids: Token ids that end an answer; a follow-up question begins with one.
        yes_ids: Token ids that an answer of yes may begin with.
        no_ids: Token ids that an answer of no may begin with.
        noise_floor: Motion of the feature that noise alone makes (see ``streamvlm.gate.curvature``), or None where
            it is not known and calibration measures it.
        max_dialogue_tokens: Most tokens of earlier questions and answers in view.
        retrieval_heads: Calibrated (layer, query head) pairs, or None where none ship with the checkpoint.
    """

    family: str
    name: str
    fingerprint: str
    text_model: Any
    output_head: nn.Module
    device: torch.device
    layout: BlockLayout
    stop_ids: frozenset[int]
    yes_ids: frozenset[int]
    no_ids: frozenset[int]
    noise_floor: float | None
    max_dialogue_tokens: int
    retrieval_heads: tuple[tuple[int, int], ...] | None

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """Runs the vision tower on pictures of any size, in one forward pass."""

    def frame_tokens(self, sight: Sight, time_s: float, fidelity: Fidelity) -> FrameTokens:
        """Returns the tokens of a frame's block: its timestamp as text, then its visual tokens."""

    def opening_tokens(self) -> Tensor:
        """Returns the (N, E) embeddings of the system prompt, which are the sinks."""

    def question_tokens(self, question: str, *, follows_up: bool = False) -> Tensor:
        """Returns the (N, E) embeddings of a question, with the markup from the stream or last answer up to its own."""

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Returns the (N, E) embeddings of token ids."""

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of answer tokens; more ids only append to it."""
