"""Payloads that differ by block, and a disk that fails on demand."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from streamvlm.frame import Fidelity
from streamvlm.memory.block import BlockLayout, KVBlock, Positions
from streamvlm.memory.disk.store import Put
from streamvlm.memory.disk.system_calls import SystemCalls

LAYOUT = BlockLayout(n_layers=2, n_kv_heads=2, head_dim=64, dtype=torch.float32)
CLEAR_TOKENS, FUZZY_TOKENS = 13, 8


class BrokenIO(SystemCalls):
    """Fails the call named by ``breaks`` after ``after`` good ones."""

    def __init__(self, breaks: str = "", after: int = 0) -> None:
        self.breaks, self.after = breaks, after

    def _is_broken(self, *names: str) -> bool:
        if self.breaks not in names:
            return False
        self.after -= 1
        return self.after < 0

    def reserve(self, fd: int, n_bytes: int) -> None:
        if self._is_broken("enospc"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().reserve(fd, n_bytes)

    def write(self, fd: int, buffers: Sequence[memoryview], offset: int) -> None:
        if self._is_broken("torn"):
            whole = b"".join(buffers)
            super().write(fd, [memoryview(whole[: len(whole) // 2])], offset)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._is_broken("read-only"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self._is_broken("flipped", "first page"):
            flipped = bytearray(b"".join(buffers))
            flipped[30 if self.breaks == "first page" else len(flipped) // 2] ^= 1
            buffers = [memoryview(flipped)]
        super().write(fd, buffers, offset)

    def read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if self._is_broken("eio"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        if self._is_broken("sync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(fd)


def put(block_id: int, n_tokens: int = CLEAR_TOKENS, score: float = 1.0) -> Put:
    fidelity = Fidelity.CLEAR if n_tokens == CLEAR_TOKENS else Fidelity.FUZZY
    payload = content(block_id, n_tokens)
    rows = payload[1, 0, 0][:, None].clone()
    axes = torch.arange(3 * n_tokens).view(3, n_tokens) % (block_id + 1)
    positions = Positions.of(axes, n_tokens - 1) if block_id % 2 else None
    return Put(KVBlock(block_id, float(block_id), float(block_id), fidelity, score, n_tokens, positions), payload, rows)


def content(block_id: int, n_tokens: int = CLEAR_TOKENS) -> Tensor:
    return torch.randn(LAYOUT.shape(n_tokens), generator=torch.Generator().manual_seed(block_id))
