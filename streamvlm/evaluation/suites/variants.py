"""What the world suite compares: memory policies, with their blocks in RAM or on disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from streamvlm.archive.archive import Archive, ArchiveConfig
from streamvlm.errors import UsageError
from streamvlm.frame import Fidelity
from streamvlm.memory.block import whole_pages
from streamvlm.memory.disk.codec import Codec
from streamvlm.models.base import VideoLanguageModel
from streamvlm.policies.registry import check_policy
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared with others: a memory policy, and where its blocks lie.

    Attributes:
        policy: Its name.
        codec: How blocks are kept on disk, with next to none of them in RAM; None: all are in RAM.
    """

    policy: str
    codec: Codec | None = None

    def __str__(self) -> str:
        return self.policy if self.codec is None else f"{self.policy} from disk, {self.codec}"

    def open(self, model: VideoLanguageModel, config: SessionConfig, opened: ExitStack) -> Session:
        """Opens a session; what it needs on disk is gone when ``opened`` is left."""
        config = replace(config, policy=self.policy)
        if self.codec is None:
            return Session(model, config)
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="streamvlm-eval-")))
        archive = Archive(folder, model, ArchiveConfig(self.codec), on_event=lambda text: None)
        opened.enter_context(closing(archive))
        return Session(model, replace(config, host_budget_bytes=_small_host_bytes(model, config)), archive=archive)


def variants_of(policies: Iterable[str], codecs: Collection[str] = ()) -> list[Variant]:
    """Returns a variant for each policy, and after it one for each codec that keeps its blocks on disk.

    Raises:
        UsageError: If there is no such policy or codec.
    """
    if unknown := set(codecs) - set(Codec):
        raise UsageError(f"There is no disk codec {', '.join(sorted(unknown))}; choose from {', '.join(Codec)}.")
    places = [None, *map(Codec, codecs)]
    return [Variant(check_policy(policy), codec) for policy in policies for codec in places]


def _small_host_bytes(model: VideoLanguageModel, config: SessionConfig) -> int:
    """Returns RAM for the window and what a question or two may fetch."""
    (sight,) = model.see([np.zeros((240, 320, 3), np.uint8)])
    n_tokens = len(model.frame_tokens(sight, 0.0, Fidelity.CLEAR))
    return (config.window_blocks + 2 * config.top_k) * whole_pages(n_tokens * model.layout.token_bytes)
