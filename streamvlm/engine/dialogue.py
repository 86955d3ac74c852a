"""What has been said about a stream and is still in view."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from streamvlm.engine.archive import Archive
from streamvlm.engine.diary import Spoken
from streamvlm.models.base import VideoLanguageModel


class Dialogue:
    """Questions and answers as payloads, the oldest dropped beyond a number of tokens, but never the last.

    Args:
        model: Whose payloads they are.
        most_tokens: To keep in view.
        archive: Where they are kept on disk; what it holds is in view from the start.

    Attributes:
        payloads: Each (L, 2, K, N, D), oldest first.
    """

    def __init__(self, model: VideoLanguageModel, most_tokens: int, archive: Archive | None) -> None:
        self.payloads: deque[Tensor] = deque()
        self._most_tokens, self._archive = most_tokens, archive
        for spoken in archive.diary.dialogue(most_tokens) if archive is not None else ():
            data = torch.frombuffer(bytearray(spoken.payload), dtype=torch.uint8)
            payload = data.view(model.layout.dtype).view(model.layout.shape(spoken.n_tokens))
            self.payloads.append(payload.to(model.device))
        self._trim()

    def add(self, payload: Tensor, question: str, answer: str, asked_at_s: float) -> None:
        """Takes in a question and its answer."""
        self.payloads.append(payload)
        self._trim()
        if self._archive is not None:
            data = payload.cpu().contiguous().view(torch.uint8).numpy().tobytes()
            self._archive.writer.note(Spoken(asked_at_s, question, answer, payload.shape[-2], data))

    def _trim(self) -> None:
        while len(self.payloads) > 1 and sum(p.shape[-2] for p in self.payloads) > self._most_tokens:
            self.payloads.popleft()
