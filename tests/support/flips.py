"""Files with one wrong bit."""

from __future__ import annotations

import random
from collections.abc import Iterator

PAGE_BYTES = 4096


def flips(data: bytes, n_a_page: int) -> Iterator[bytes]:
    """Yields the same bytes with one bit flipped: in the first byte of every page, and at ``n_a_page`` other places."""
    rng = random.Random(0)
    for page in range(0, len(data), PAGE_BYTES):
        for at in [page, *(page + rng.randrange(PAGE_BYTES) for _ in range(n_a_page))]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << rng.randrange(8)
            yield bytes(flipped)
