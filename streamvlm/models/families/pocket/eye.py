"""Pocket's eye: small trained heads over the frozen trunk that turn a picture into attribute posteriors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamvlm.models.families.pocket.attributes import GROUPS, N_ATTRIBUTES, N_ZONES, REAL, SPAN
from streamvlm.models.families.pocket.trunk import COARSE, FINE, MIDDLE, TrunkFeatures

ZONE_GROUPS = ("colour", "shape", "badge")
_WIDTH, _ZONE = 64, 256
_REAL = SPAN["scene"].start + GROUPS["scene"].index(REAL)


class Eye(nn.Module):
    """Reads colour, shape and badge in each of nine zones, and the scene of the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(FINE, _WIDTH, 3, 2, 1)
        self.middle = nn.Conv2d(MIDDLE, _WIDTH, 1)
        self.mix = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1)
        self.down = nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, 2, 1)
        self.coarse = nn.Conv2d(COARSE, 2 * _WIDTH, 1)
        self.deep = nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, 1, 1)
        self.zone = nn.Conv2d(2 * _WIDTH, _ZONE, 4, 4)
        self.zone_heads = nn.ModuleDict({g: nn.Linear(_ZONE, len(GROUPS[g])) for g in ZONE_GROUPS})
        self.scene = nn.Sequential(nn.Linear(2 * _WIDTH + COARSE, 128), nn.ReLU(), nn.Linear(128, len(GROUPS["scene"])))

    def forward(self, seen: TrunkFeatures) -> dict[str, Tensor]:
        """Returns logits: (T, 9, n) for each zone group, (T, n) for ``scene``."""
        x = F.relu(self.fine(seen.fine) + self.middle(seen.middle))
        x = x + F.relu(self.mix(x))
        x = F.relu(self.down(x) + self.coarse(seen.coarse))
        x = x + F.relu(self.deep(x))
        # 14 cells do not divide by 3: resized to 12, every zone is 4 x 4 cells.
        zones = F.interpolate(x, size=(12, 12), mode="bilinear", align_corners=False)
        zones = F.relu(self.zone(zones)).flatten(2).transpose(1, 2)  # (T, 9, zone)
        logits = {g: head(zones) for g, head in self.zone_heads.items()}
        logits["scene"] = self.scene(torch.cat([x.mean((2, 3)), seen.coarse.mean((2, 3))], 1))
        return logits


def posteriors(logits: dict[str, Tensor], words: Tensor) -> Tensor:
    """Lays an eye's logits and the trunk's word posteriors out as pocket's posterior vectors.

    Args:
        logits: What ``Eye`` returned for T pictures.
        words: (T, words) float32 posteriors over everyday words.

    Returns:
        (T, 10, attributes) float32: the whole picture first, then its nine zones. Words count only as far as
        the picture is of the real world, things of the synthetic world only as far as it is not.
    """
    n = len(words)
    rows = words.new_zeros(n, 1 + N_ZONES, N_ATTRIBUTES)
    rows[:, 0, SPAN["scene"]] = logits["scene"].softmax(-1)
    real = rows[:, 0, _REAL, None]
    # Squared and scaled back, so that the likeliest word stands out: the answer will be one word.
    rows[:, 0, SPAN["word"]] = words.square() / words.square().sum(-1, keepdim=True) * real
    rows[:, 1:, SPAN["zone"]] = torch.eye(N_ZONES, device=words.device)
    # Every zone has the scene as well, so that one token answers "the left of the forest".
    rows[:, 1:, SPAN["scene"]] = rows[:, :1, SPAN["scene"]]
    for group in ZONE_GROUPS:
        seen = logits[group].softmax(-1) * (1 - real[..., None])
        seen[..., -1] += real  # the last of each zone group is "nothing"
        rows[:, 1:, SPAN[group]] = seen
    return rows
