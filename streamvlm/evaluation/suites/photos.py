"""What pocket sees in photographs that it was not trained on, beside its trunk's own top-1 of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from streamvlm.frame import Frame
from streamvlm.models.base import VideoLanguageModel
from streamvlm.models.families.pocket.trunk import load_trunk, to_pixels
from streamvlm.models.families.pocket.words import everyday_words
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.photos import PhotoCase

QUESTION = "what do you see now?"


@dataclass(frozen=True, slots=True)
class PhotoMark:
    """One picture: its name, the answer, the word of the trunk's likeliest class, and the words that count as right."""

    name: str
    said: str
    trunk_said: str
    accepted: frozenset[str]

    @property
    def is_right(self) -> bool:
        """Whether the answer holds an accepted word."""
        return bool(self.accepted & set(self.said.lower().replace(",", " ").replace(".", " ").split()))

    @property
    def is_trunk_right(self) -> bool:
        """Whether the word of the trunk's likeliest class is an accepted one."""
        return self.trunk_said in self.accepted


def run_photo_suite(model: VideoLanguageModel, cases: Sequence[PhotoCase]) -> list[PhotoMark]:
    """Shows each picture to a session of its own and asks what it sees."""
    trunk, words = load_trunk(), everyday_words()
    marks = []
    for case in cases:
        session = Session(model, SessionConfig(host_budget_bytes=8 << 20))
        session.observe(Frame(0, 0.0, case.picture))
        with torch.inference_mode():
            top = int(trunk(to_pixels([case.picture])).classes[0].argmax())
        marks.append(PhotoMark(case.name, session.ask(QUESTION).answer.text, words[top], case.words))
    return marks
