"""The dialogue: questions about a stream and their answers, as far as they are still in view."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from streamvlm.archive.archive import Archive
from streamvlm.archive.diary import AnsweredQuestion, DialogueRecord, DialogueTurn
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
        layout = model.layout
        for turn in archive.diary.turns(most_tokens, layout.token_bytes) if archive is not None else ():
            data = torch.frombuffer(bytearray(turn.payload), dtype=torch.uint8)
            self.payloads.append(data.view(layout.dtype).view(layout.shape(turn.n_tokens)).to(model.device))

    def add(self, payload: Tensor, question: str, answer: str, asked_at_s: float) -> None:
        """Adds a question and its answer."""
        self.payloads.append(payload)
        while len(self.payloads) > 1 and sum(p.shape[-2] for p in self.payloads) > self._most_tokens:
            self.payloads.popleft()
        if self._archive is not None:
            data = payload.cpu().contiguous().view(torch.uint8).numpy().tobytes()
            answered, turn = AnsweredQuestion(asked_at_s, question, answer), DialogueTurn(payload.shape[-2], data)
            self._archive.writer.note(DialogueRecord(answered, turn, len(self.payloads)))
