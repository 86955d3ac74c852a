"""The life of a frame: seen, judged, encoded behind sinks and window, remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamvlm.archive.archive import Archive
from streamvlm.archive.diary import FrameRecord
from streamvlm.frame import Fidelity, Frame
from streamvlm.gate.gate import Decision, DecisionLog
from streamvlm.memory.block import KVBlock
from streamvlm.models.base import FrameTokens, Sight, VideoLanguageModel
from streamvlm.session.sight_cache import SightCache
from streamvlm.session.steps import Work
from streamvlm.session.stream_memory import StreamMemory


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame that was watched: what was seen in it, and what the gate decided."""

    sight: Sight
    decision: Decision


class Watcher:
    """Watches the frames of one stream, chunk by chunk.

    Args:
        model: What sees and encodes.
        memory: Where kept frames go; the gate of its policy judges them.
        log_decisions: Newest decisions to hold.
        archive: Gets a record of every frame; watching goes on where it was left.

    Attributes:
        log: Every gate decision, newest kept.
        time_s: Stream time of the newest frame, if need be of an earlier process; None before the first.
        newest: The newest frame; None before the first of this process.
    """

    def __init__(
        self,
        model: VideoLanguageModel,
        memory: StreamMemory,
        log_decisions: int,
        archive: Archive | None,
    ) -> None:
        self._model, self._memory, self._archive = model, memory, archive
        self._sights = SightCache()
        self.log = DecisionLog(log_decisions)
        self.newest: SeenFrame | None = None
        self.time_s: float | None = _left_at_s(memory, archive) if archive is not None else None

    def watch(self, frames: Sequence[Frame]) -> Work[list[SeenFrame]]:
        """Watches the next frames, at least one, in order of stream time; the work wants a look and a reading.

        Raises:
            ValueError: If stream time goes backwards; nothing has been taken in then.
            MemoryBudgetError: If the host budget cannot hold the window.
        """
        times = [self.time_s or 0.0, *(frame.time_s for frame in frames)]
        if times != sorted(times):
            raise ValueError(f"stream time goes backwards in {times}")
        sights = yield from self._sights.look([frame.picture for frame in frames])
        gate = self._memory.policy.gate
        seen = [
            SeenFrame(sight, gate.decide(sight.feature, frame.time_s))
            for frame, sight in zip(frames, sights, strict=True)
        ]
        kept = [self._tokens(one) for one in seen if _is_kept(one)]
        encoded = iter((yield from self._memory.encode(kept)))
        for frame, one in zip(frames, seen, strict=True):
            block = self._memory.remember(next(encoded), one.decision) if _is_kept(one) else None
            if block is None:
                self._memory.blocks.extend(frame.time_s)
            self.log.append(one.decision)
            self._note(one.decision, block, frame)
        self.newest, self.time_s = seen[-1], frames[-1].time_s
        return seen

    def _tokens(self, seen: SeenFrame) -> FrameTokens:
        return self._model.frame_tokens(seen.sight, seen.decision.time_s, seen.decision.fidelity)

    def _note(self, decision: Decision, block: KVBlock | None, frame: Frame) -> None:
        if self._archive is not None:
            kept = (block.id, frame.picture) if block is not None else (None, None)
            self._archive.writer.note(FrameRecord(decision.time_s, str(decision.fidelity), decision.score, *kept))


def _is_kept(seen: SeenFrame) -> bool:
    return seen.decision.fidelity is not Fidelity.DISCARDED


def _left_at_s(memory: StreamMemory, archive: Archive) -> float | None:
    """Returns the stream time at which an archive was left; None if it is new."""
    times_s = [block.end_s for block in memory.blocks.table.snapshot()[-1:]]
    if (clock_s := archive.diary.time_s()) is not None:
        times_s.append(clock_s)
    return max(times_s, default=None)
