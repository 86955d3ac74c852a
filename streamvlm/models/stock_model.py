"""The common part of the adapters of stock Hugging Face families: loading, tokens, turns. A family is a subclass."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from streamvlm.errors import ModelError
from streamvlm.frame import Fidelity, Picture
from streamvlm.models.base import Footprint, FrameTokens, Sight
from streamvlm.models.chat import Chat, Turns
from streamvlm.models.loading import layout_of, load_stock, read_config, stop_ids
from streamvlm.models.pixels import read_pixel_settings
from streamvlm.models.weights import fingerprint
from streamvlm.readable import whole_seconds

_DIALOGUE_SHARE = 8
"""The dialogue in view is an eighth of the context that the decoder was trained on."""


@dataclass(frozen=True, slots=True)
class Wrapping:
    """Markup around a frame's visual tokens."""

    before: str
    after: str = ""


class StockModel(ABC):
    """An unmodified ``...ForConditionalGeneration`` behind the adapter interface (``VideoLanguageModel``).

    Args:
        folder: Checkpoint directory: ``config.json``, safetensors, ``tokenizer.json``, chat template,
            ``preprocessor_config.json``.
        name: What the user calls it.
        device: Where to run.
        dtype: Of all weights.

    Attributes:
        stock_class: Its class in transformers.
        special_tokens: Tokens of the family's markup, which its tokenizer must have.
        stock: The transformers model.
        chat: Its tokenizer and template.
        pixel_settings: Its preprocessing numbers.

    Raises:
        ModelError: If the checkpoint cannot be loaded.
    """

    family: ClassVar[str]
    stock_class: ClassVar[Any]
    special_tokens: ClassVar[tuple[str, ...]]

    noise_floor: float | None = None  # differs between checkpoints: measured once, at calibration
    retrieval_heads: tuple[tuple[int, int], ...] | None = None

    def __init__(self, folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> None:
        self.name, self.device = name, device
        self.fingerprint = fingerprint(folder)
        self.chat = Chat(folder)
        self.chat.require(self.special_tokens)
        self.turns = self._turns()
        self.pixel_settings = read_pixel_settings(folder)
        self._try_pixel_settings(folder)
        self.stop_ids = frozenset({*stop_ids(folder), *self.chat.ids(self.turns.asking_again)[:1]})
        yes, no = self._beginnings("yes"), self._beginnings("no")
        self.yes_ids, self.no_ids = yes - no, no - yes  # a single space may begin both
        self.stock = load_stock(self.stock_class, folder, device=device, dtype=dtype)
        self.text_model: Any = self.stock.get_decoder()
        self.output_head: nn.Module = self.stock.get_output_embeddings()
        self.layout = layout_of(self.stock.config, dtype)
        self.max_dialogue_tokens = self.text_model.config.max_position_embeddings // _DIALOGUE_SHARE

    @classmethod
    def footprint(cls, folder: Path, dtype: torch.dtype) -> Footprint:
        """Returns the size of a kept frame of the checkpoint in a folder, from its config.json alone.

        Raises:
            ModelError: If that cannot be read.
        """
        config = read_config(folder)
        return Footprint(layout_of(config, dtype), *cls.frame_tokens_of(config))

    @staticmethod
    @abstractmethod
    def frame_tokens_of(config: Any) -> tuple[int, int]:
        """Counts the tokens of a clear and a fuzzy frame's block, timestamp included, from the configuration alone."""

    @abstractmethod
    def _turns(self) -> Turns:
        """Returns the family's markup of a dialogue about a stream."""

    @abstractmethod
    def _wrapping(self, time_s: float) -> Wrapping:
        """Returns the timestamp and the family's other markup around a frame's visual tokens."""

    @staticmethod
    @abstractmethod
    def prepare(pictures: Sequence[Picture], settings: dict[str, Any], device: torch.device) -> Tensor:
        """Turns pictures into float32 input of the vision tower, by a checkpoint's preprocessing numbers."""

    @staticmethod
    @abstractmethod
    def look(stock: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the tower once; returns gate features (T, C) and square grids of visual tokens (T, N, E)."""

    def pixels(self, pictures: Sequence[Picture]) -> Tensor:
        """Turns pictures into float32 input of this checkpoint's vision tower."""
        return self.prepare(pictures, self.pixel_settings, self.device)

    def _try_pixel_settings(self, folder: Path) -> None:
        try:
            self.pixels([np.zeros((48, 64, 3), np.uint8)])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise ModelError(
                f"The preprocessing numbers in {folder} are not those of the family {self.family} ({error!r}); "
                "get preprocessor_config.json from where the weights are."
            ) from error

    @torch.inference_mode()
    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """See ``VideoLanguageModel.see``; ``detail`` is a frame's grid of visual tokens."""
        features, grids = self.look(self.stock, self.pixels(pictures).to(self.stock.dtype))
        return [Sight(feature.float(), grid) for feature, grid in zip(features, grids, strict=True)]

    @torch.inference_mode()
    def frame_tokens(self, sight: Sight, time_s: float, fidelity: Fidelity) -> FrameTokens:
        """See ``VideoLanguageModel.frame_tokens``."""
        wrapping = self._wrapping(time_s)
        before, after = (FrameTokens(self.embed(self.chat.ids(text))) for text in (wrapping.before, wrapping.after))
        return FrameTokens.join([before, self.visual_tokens(sight.detail, fidelity), after])

    @staticmethod
    def visual_tokens(detail: Tensor, fidelity: Fidelity) -> FrameTokens:
        """Returns a frame's visual tokens (N, E): all of its square grid, or pooled to half its side if fuzzy."""
        if fidelity is Fidelity.CLEAR:
            return FrameTokens(detail)
        side = math.isqrt(len(detail))
        return FrameTokens(halve_grid(detail.reshape(side, side, -1)).flatten(0, 1))

    def opening_tokens(self) -> Tensor:
        """See ``VideoLanguageModel.opening_tokens``."""
        return self.embed(self.chat.ids(self.turns.opening))

    def question_tokens(self, question: str, *, follows_up: bool = False) -> Tensor:
        """See ``VideoLanguageModel.question_tokens``."""
        before = self.turns.asking_again if follows_up else self.turns.asking
        return self.embed(self.chat.spoken_ids(before, question, self.turns.answering))

    def _beginnings(self, word: str) -> frozenset[int]:
        """Returns the ids that may begin an answer of one word: in either case, with or without a space before it."""
        written = (space + form for space in ("", " ") for form in (word, word.capitalize()))
        return frozenset(self.chat.ids(one)[0] for one in written)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> Tensor:
        """See ``VideoLanguageModel.embed``."""
        embedded: Tensor = self.text_model.get_input_embeddings()(torch.tensor(list(ids), device=self.device).long())
        return embedded

    def text(self, ids: Sequence[int]) -> str:
        """See ``VideoLanguageModel.text``."""
        return self.chat.text(ids)


def halve_grid(grid: Tensor) -> Tensor:
    """Pools a grid of tokens (..., rows, columns, E) bilinearly to half its sides, rounded up."""
    rows, columns, _ = grid.shape[-3:]
    half = math.ceil(rows / 2), math.ceil(columns / 2)
    maps = grid.movedim(-1, -3).reshape(-1, 1, rows, columns)
    pooled = nn.functional.interpolate(maps, size=half, mode="bilinear")
    return pooled.reshape(*grid.shape[:-3], -1, *half).movedim(-3, -1)


def clock(time_s: float) -> str:
    """Writes minutes and seconds, as families write a frame's time: ``03:07``, and ``125:00`` after two hours."""
    minutes, seconds = divmod(whole_seconds(time_s), 60)
    return f"{minutes:02}:{seconds:02}"
