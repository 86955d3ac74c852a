"""Weight files of a checkpoint, from their headers: whether they are whole, and how large; contents are not read.

A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, JSON: each tensor's
dtype, shape and place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamvlm.errors import ModelError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json")
_MOST_HEADER_BYTES = 100 << 20  # the format's own limit
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Shard:
    """A weight file: its header, and where its tensors' bytes begin."""

    path: Path
    header: bytes
    tensors: dict[str, dict[str, Any]]
    data_start: int


@dataclass(frozen=True, slots=True)
class Weights:
    """The contents of a checkpoint's weight files, as their headers list them."""

    shards: Sequence[_Shard]

    @property
    def n_parameters(self) -> int:
        """How many numbers all tensors hold."""
        return sum(math.prod(tensor["shape"]) for shard in self.shards for tensor in shard.tensors.values())


def read_weights(folder: Path) -> Weights:
    """Reads the headers of a checkpoint's weight files and checks the files' lengths against them.

    Raises:
        ModelError: If a file is missing, cut short or damaged, or there are no safetensors at all.
    """
    return Weights([_read_shard(path) for path in _weight_files(folder)])


def fingerprint(folder: Path) -> str:
    """Returns a text that tells checkpoints apart, in milliseconds however many GB they have.

    It covers the settings files, the weight files' headers and sizes, and 4 KiB from the middle of each tensor, not all
    contents. Training changes a tensor everywhere, so another fine-tune has another fingerprint; a few numbers changed
    by hand may not.

    Raises:
        ModelError: As ``read_weights``.
    """
    digest = hashlib.sha256()
    for name in _SETTINGS:
        if (folder / name).is_file():
            digest.update(name.encode())
            digest.update((folder / name).read_bytes())
    for shard in read_weights(folder).shards:
        digest.update(shard.header)
        for sample in _samples(shard):
            digest.update(sample)
    return digest.hexdigest()[:16]


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / INDEX} is damaged ({error}); get the checkpoint again.") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"The checkpoint in {folder} lacks {len(missing)} of its {len(names)} weight files, such as "
                f"{missing[0]}; get the missing ones."
            )
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"The checkpoint in {folder} has pickled weights only, which can run code when read; "
            "take a revision with .safetensors files, or convert it."
        )
    raise ModelError(f"The checkpoint in {folder} has no weights ({SINGLE} or {INDEX}); get them.")


def _read_shard(path: Path) -> _Shard:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = file.read(min(length, _MOST_HEADER_BYTES))
        tensors = {name: value for name, value in json.loads(header).items() if name != "__metadata__"}
        expected = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        actual = path.stat().st_size
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no safetensors file or is damaged ({error}); get it again.") from error
    if actual != expected:
        raise ModelError(f"{path} has {actual} bytes and should have {expected}: it was cut short; get it again.")
    return _Shard(path, header, tensors, 8 + length)


def _samples(shard: _Shard) -> Iterator[bytes]:
    fd = os.open(shard.path, os.O_RDONLY)
    try:
        for tensor in shard.tensors.values():
            start, stop = tensor["data_offsets"]
            middle = start + max(0, (stop - start - _SAMPLE_BYTES) // 2)
            yield os.pread(fd, min(_SAMPLE_BYTES, stop - middle), shard.data_start + middle)
    finally:
        os.close(fd)
