"""Trains pocket's eye on drawn pictures of the synthetic world, and on photographs as pictures of the real one.

The trunk is frozen, so its features are computed once and kept in memory as float16.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from streamvlm.frame import Picture
from streamvlm.models.families.pocket.attributes import GROUPS, NOTHING, REAL, UNBADGED
from streamvlm.models.families.pocket.eye import ZONE_GROUPS, Eye
from streamvlm.models.families.pocket.trunk import Trunk, TrunkFeatures, load_trunk, to_pixels
from streamvlm.world.events import BADGES, COLOURS, SCENES, SHAPES, ZONES, Thing
from streamvlm.world.render import draw_picture

IGNORE = -100
PICTURES_A_BATCH = 16


def random_things(rng: np.random.Generator) -> dict[str, Thing]:
    """Draws between none and seven things in different zones."""
    zones = rng.choice(ZONES, size=int(rng.choice([0, 1, 2, 4, 5, 6, 7])), replace=False)
    return {str(zone): _random_thing(rng) for zone in zones}


def _random_thing(rng: np.random.Generator) -> Thing:
    badge = None if rng.random() < 0.12 else str(rng.choice(BADGES))
    return Thing(str(rng.choice(COLOURS)), str(rng.choice(SHAPES)), badge)


def labels_of(scene: str, things: dict[str, Thing]) -> dict[str, Tensor]:
    """Returns class numbers: (9,) for each zone group and () for the scene."""
    nobody = [things.get(zone) for zone in ZONES]
    names = {
        "colour": [t.colour if t else NOTHING for t in nobody],
        "shape": [t.shape if t else NOTHING for t in nobody],
        "badge": [(t.badge or UNBADGED) if t else NOTHING for t in nobody],
    }
    numbers = {g: torch.tensor([GROUPS[g].index(n) for n in names[g]]) for g in ZONE_GROUPS}
    return numbers | {"scene": torch.tensor(GROUPS["scene"].index(scene))}


def photographs(folders: Sequence[Path], held_out: Set[str], rng: np.random.Generator, n: int) -> Iterator[Picture]:
    """Draws random crops of the pictures under ``folders``, as examples of the real world.

    ``held_out`` names files, relative to their folder, that must not be trained on.
    """
    paths = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".png", ".webp", ".jpg"} and str(path.relative_to(folder)) not in held_out
    ]
    sources = [picture for path in paths if (picture := _read(path)) is not None]
    for _ in range(n):
        picture = sources[int(rng.integers(len(sources)))]
        height, width = picture.shape[:2]
        share = rng.uniform(0.5, 1.0)
        h, w = int(height * share), int(width * share)
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        crop = np.ascontiguousarray(picture[y : y + h, x : x + w, :])
        yield crop[:, ::-1].copy() if rng.random() < 0.5 else crop


def _read(path: Path) -> Picture | None:
    loaded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if loaded is None or loaded.ndim != 3:
        return None
    loaded = _shrunk(loaded)
    if loaded.shape[2] == 4:
        # A cut-out stands on a plain or a noisy ground.
        alpha = loaded[..., 3:] / 255.0
        ground = np.random.default_rng(len(str(path))).integers(0, 256, 3)
        loaded = (loaded[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(loaded[..., ::-1])


def _shrunk(picture: np.ndarray) -> np.ndarray:
    scale = 480 / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


@torch.inference_mode()
def features(trunk: Trunk, pictures: Sequence[Picture]) -> tuple[Tensor, Tensor, Tensor]:
    """Computes float16 fine, middle and coarse features of ``pictures``."""
    seen = trunk(to_pixels(pictures), upto_coarse=True)
    return seen.fine.half(), seen.middle.half(), seen.coarse.half()


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=7000)
    parser.add_argument("--photos", type=int, default=1200)
    parser.add_argument("--photo-folders", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, required=True, help="photos.tsv, whose pictures are for evaluation")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    trunk = load_trunk()
    stored, labels, began = [], [], time.time()
    pending: list[Picture] = []

    def flush() -> None:
        if pending:
            stored.append(features(trunk, pending))
            pending.clear()

    for i in range(args.drawn):
        scene, things = str(rng.choice(SCENES)), random_things(rng)
        pending.append(draw_picture(scene, things, rng))
        labels.append(labels_of(scene, things))
        if len(pending) == PICTURES_A_BATCH:
            flush()
        if i % 500 == 499:
            print(f"{i + 1} pictures after {time.time() - began:.0f} s", flush=True)
    held_out = {line.split("\t")[0] for line in args.held_out.read_text().splitlines()}
    for picture in photographs(args.photo_folders, held_out, rng, args.photos):
        pending.append(picture)
        labels.append(
            {g: torch.full((9,), IGNORE) for g in ZONE_GROUPS} | {"scene": torch.tensor(GROUPS["scene"].index(REAL))}
        )
        if len(pending) == PICTURES_A_BATCH:
            flush()
    flush()
    maps = [torch.cat(parts) for parts in zip(*stored, strict=True)]
    targets = {g: torch.stack([one[g] for one in labels]) for g in (*ZONE_GROUPS, "scene")}
    train(maps, targets, args.epochs, args.out)


def train(maps: list[Tensor], targets: dict[str, Tensor], epochs: int, out: Path) -> None:
    """Fits an eye to stored features and prints its accuracy on a held-out tenth after every epoch."""
    eye = Eye()
    n = len(maps[0])
    order = torch.randperm(n)
    held, fitted = order[: n // 12], order[n // 12 :]
    batch = 32
    steps = epochs * (len(fitted) // batch)
    optimiser = torch.optim.AdamW(eye.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps + 1)
    for epoch in range(epochs):
        eye.train()
        shuffled = fitted[torch.randperm(len(fitted))]
        for start in range(0, len(shuffled) - batch + 1, batch):
            rows = shuffled[start : start + batch]
            logits = eye(_seen(maps, rows))
            loss = torch.stack([_loss(logits[g], targets[g][rows]) for g in logits]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        print(
            f"epoch {epoch + 1}: " + ", ".join(f"{g} {a:.3f}" for g, a in accuracy(eye, maps, targets, held).items()),
            flush=True,
        )
        torch.save(eye.state_dict(), out)


def _seen(maps: list[Tensor], rows: Tensor) -> TrunkFeatures:
    fine, middle, coarse = (m[rows].float() for m in maps)
    return TrunkFeatures(fine, middle, coarse, torch.empty(0))


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORE, label_smoothing=0.01)


@torch.inference_mode()
def accuracy(eye: Eye, maps: list[Tensor], targets: dict[str, Tensor], rows: Tensor) -> dict[str, float]:
    """Returns the share right for each group; zones that show nothing count only where they are false alarms."""
    eye.eval()
    right: dict[str, list[Tensor]] = {}
    for part in torch.split(rows, 64):
        for group, logits in eye(_seen(maps, part)).items():
            target = targets[group][part]
            hit = logits.argmax(-1) == target
            if group == "scene":
                right.setdefault(group, []).append(hit)
                continue
            empty = target == len(GROUPS[group]) - 1
            right.setdefault(group, []).append(hit[(target != IGNORE) & ~empty])
            right.setdefault(f"no {group}", []).append(hit[empty])
    return {group: float(torch.cat(hits).float().mean()) for group, hits in right.items()}


if __name__ == "__main__":
    main()
