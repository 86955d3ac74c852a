"""The device tier: payloads of lately fetched blocks, kept on the accelerator within a byte budget."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor


class DeviceTier:
    """Least-recently-fetched cache of payload tensors, each of which the host tier holds too.

    Dropping one only drops this cache's reference: a question that is using it keeps it. Only fetched blocks
    enter, for appended ones would wash out what questions ask for.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._payloads: OrderedDict[int, Tensor] = OrderedDict()

    def get(self, block_id: int) -> Tensor | None:
        """Returns the block's payload, now the most recent one; None if it is not cached."""
        if block_id in self._payloads:
            self._payloads.move_to_end(block_id)
        return self._payloads.get(block_id)

    def put(self, block_id: int, payload: Tensor) -> None:
        """Caches a new payload in place of the oldest ones, unless it alone exceeds the budget."""
        if payload.nbytes > self.budget_bytes:
            return
        while self.used_bytes + payload.nbytes > self.budget_bytes:
            self.drop(next(iter(self._payloads)))
        self._payloads[block_id] = payload
        self.used_bytes += payload.nbytes

    def drop(self, block_id: int) -> None:
        """Drops a block, if it is cached."""
        payload = self._payloads.pop(block_id, None)
        self.used_bytes -= payload.nbytes if payload is not None else 0
