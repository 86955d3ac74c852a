"""The common part of the Qwen VL families: pictures of any shape, positions of three axes, time in the text.

The families take a video's frames in pairs, one patch of the tower over both. Here a question may come right after a
frame, and the gate keeps or drops each frame by itself; so a frame is paired with itself, as the families do with a
still picture. That costs twice the tokens of the families' own videos of as many frames, and the motion in a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamvlm.frame import Fidelity, Picture
from streamvlm.memory.block import Positions
from streamvlm.models.base import FrameTokens, Sight
from streamvlm.models.chat import QWEN_SYSTEM, Turns
from streamvlm.models.pixels import normalise, resize
from streamvlm.models.stock_model import StockModel, Wrapping, halve_grid

_MOST_TOKENS = 256
"""Most visual tokens of a clear frame, even if the checkpoint allows more: a 16:9 picture takes 252."""
_MOST_ASPECT = 200  # the families refuse a longer picture; in a stream it is squeezed
_BICUBIC = 3  # where a settings file names no filter, as those of Qwen2.5-VL do not
_N_TEXT_TOKENS = 11  # from 1,000 seconds on; Qwen's tokenizer takes digits one by one


class QwenVl(StockModel):
    """A tower of any resolution before a Qwen decoder with M-RoPE, which places tokens by time, height and width.

    A frame keeps its shape, which decides the grid of its visual tokens. A fuzzy frame's grid is pooled to half its
    sides and gets the positions of a picture of half the size: so no frame is encoded twice, and the decoder was
    trained on such positions, as it was not on those of a grid with gaps.

    Time is text before each frame, ``<7.5 seconds>``, as Qwen3-VL writes it (in transformers 4.57, by the family's
    authors; later versions leave a second pair of vision markers around the video).
    """

    special_tokens = ("<|vision_start|>", "<|vision_end|>", "<|im_end|>")

    @staticmethod
    def frame_tokens_of(config: Any) -> tuple[int, int]:
        """See ``StockModel.frame_tokens_of``; for a 16:9 picture, as others have other grids."""
        rows, columns = Sizes(1, 0, _MOST_TOKENS).grid(720, 1280)
        return _N_TEXT_TOKENS + rows * columns, _N_TEXT_TOKENS + math.ceil(rows / 2) * math.ceil(columns / 2)

    @staticmethod
    def prepare(pictures: Sequence[Picture], settings: dict[str, Any], device: torch.device) -> Tensor:
        """See ``StockModel.prepare``; for pictures of one shape."""
        sizes = Sizes.of(settings)
        rows, columns = sizes.grid(*pictures[0].shape[:2])
        size, resample = (rows * sizes.token, columns * sizes.token), settings.get("resample", _BICUBIC)
        return normalise([resize(picture, size, resample) for picture in pictures], settings, device)

    @staticmethod
    def look(stock: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``StockModel.look``; the feature is the mean visual token.

        Grids are (T, 1 + levels, rows, columns, E): visual tokens, then features for the decoder's first layers.
        """
        vision = stock.config.vision_config
        patches, (rows, columns) = flatten_patches(
            pixels, vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        )
        grid = torch.tensor([[1, rows, columns]] * len(pixels), device=pixels.device)
        seen = stock.model.get_image_features(patches, grid, return_dict=True)
        levels = [seen.pooler_output, *getattr(seen, "deepstack_features", ())]
        merged = rows // vision.spatial_merge_size, columns // vision.spatial_merge_size
        tokens = torch.stack([torch.stack(level) for level in levels], dim=1)
        grids = tokens.reshape(*tokens.shape[:2], *merged, -1)
        return grids[:, 0].mean((1, 2), dtype=torch.float32), grids

    @torch.inference_mode()
    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        """See ``StockModel.see``; one pass for each shape among the pictures."""
        seen: dict[int, Sight] = {}
        for shape in {picture.shape for picture in pictures}:
            alike = [i for i, picture in enumerate(pictures) if picture.shape == shape]
            seen.update(zip(alike, super().see([pictures[i] for i in alike]), strict=True))
        return [seen[i] for i in range(len(pictures))]

    @staticmethod
    def visual_tokens(detail: Tensor, fidelity: Fidelity) -> FrameTokens:
        """See ``StockModel.visual_tokens``."""
        grid = halve_grid(detail) if fidelity is Fidelity.FUZZY else detail
        rows, columns = grid.shape[1:3]
        tokens = grid.flatten(1, 2)
        return FrameTokens(tokens[0], grid_positions(rows, columns), tokens[1:] if len(tokens) > 1 else None)

    def _turns(self) -> Turns:
        return self.chat.turns({"type": "video"}, "<|vision_start|><|video_pad|><|vision_end|>", QWEN_SYSTEM)

    def _wrapping(self, time_s: float) -> Wrapping:
        return Wrapping(f"<{time_s:.1f} seconds><|vision_start|>", "<|vision_end|>")


@dataclass(frozen=True, slots=True)
class Sizes:
    """A checkpoint's numbers that decide the size of a picture.

    Attributes:
        token: Pixels of a visual token's side.
        least: Fewest pixels of a picture.
        most: Most pixels of one.
    """

    token: int
    least: int
    most: int

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Sizes:
        """Reads them from settings, in which the limits have one of two names."""
        token = int(settings["patch_size"]) * int(settings["merge_size"])
        least = settings.get("min_pixels") or settings["size"]["shortest_edge"]
        most = min(settings.get("max_pixels") or settings["size"]["longest_edge"], _MOST_TOKENS * token**2)
        return cls(token, min(least, most), most)

    def grid(self, height: float, width: float) -> tuple[int, int]:
        """Returns the rows and columns of the visual tokens of a picture: in its shape, within the limits."""
        height, width = max(height, width / _MOST_ASPECT), max(width, height / _MOST_ASPECT)
        rows, columns = round(height / self.token), round(width / self.token)
        n_pixels = rows * columns * self.token**2
        if n_pixels > self.most:
            shrink = math.sqrt(height * width / self.most)
            return max(1, int(height / shrink / self.token)), max(1, int(width / shrink / self.token))
        if n_pixels < self.least:
            grow = math.sqrt(self.least / (height * width))
            return math.ceil(height * grow / self.token), math.ceil(width * grow / self.token)
        return rows, columns


def flatten_patches(pixels: Tensor, patch: int, merge: int, n_pair: int) -> tuple[Tensor, tuple[int, int]]:
    """Cuts frames (T, 3, height, width) into the tower's patches, each frame paired with itself.

    Args:
        pixels: Of the frames; height and width are multiples of ``patch * merge``.
        patch: Pixels of a patch's side.
        merge: Patches of a visual token's side.
        n_pair: Frames that a patch covers.

    Returns:
        Patches (T * rows * columns, 3 * n_pair * patch * patch), those of a visual token one behind the other; and
        the rows and columns of patches of a frame.
    """
    n_frames, n_colours, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    parts = pixels.reshape(n_frames, n_colours, rows // merge, merge, patch, columns // merge, merge, patch)
    parts = parts.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
    paired = parts.expand(-1, -1, -1, -1, -1, -1, n_pair, -1, -1)
    return paired.reshape(n_frames * rows * columns, n_colours * n_pair * patch**2), (rows, columns)


def grid_positions(rows: int, columns: int) -> Positions:
    """Returns the positions of a grid's tokens, row by row, all at one time (arXiv:2409.12191, 2.1)."""
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return Positions.of(torch.stack([torch.zeros_like(down), down, across]).flatten(1), max(rows, columns))
