"""A model that has seen its pictures before, so that tests of what comes after seeing need not see again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel


class RememberedSights:
    """A model whose vision side looks at each of some frames' pictures once, when it is made.

    Attributes:
        looks: How many pictures each vision call took.
    """

    def __init__(self, model: VideoLanguageModel, frames: Sequence[Frame]) -> None:
        self._model = model
        self.looks: list[int] = []
        sights = model.see([frame.picture for frame in frames])
        # The pictures are held as well: freed ones would lend their identity to the next.
        self._seen = {id(frame.picture): (frame.picture, sight) for frame, sight in zip(frames, sights, strict=True)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        self.looks.append(len(pictures))
        return [self._seen[id(picture)][1] for picture in pictures]
