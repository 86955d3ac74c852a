"""What an engine counts: each count is declared once, with its metric; statistics and Prometheus are made from that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class MetricKind(StrEnum):
    """A counter only grows while the engine lives; a gauge goes up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """A count as it is shown to a monitor.

    Attributes:
        name: Of the metric; several counts share one and differ in their label.
        help: What it tells, in a sentence.
        kind: Whether it only grows.
        labels: By which it differs from others of its name.
    """

    name: str
    help: str
    kind: MetricKind
    labels: Mapping[str, str]


def counter(name: str, says: str, source: Callable[[Any], float] | None = None, **labels: str) -> Any:
    """Declares a field that is a counter; without a ``source`` it is counted in the field itself, from 0 on."""
    return field(default=0, metadata={"metric": Metric(name, says, MetricKind.COUNTER, labels), "source": source})


def gauge(name: str, says: str, source: Callable[[Any], float], **labels: str) -> Any:
    """Declares a field that is a gauge, read from its ``source``."""
    return field(default=0, metadata={"metric": Metric(name, says, MetricKind.GAUGE, labels), "source": source})


def metrics_of(stats: Any) -> Iterator[tuple[Metric, float]]:
    """Yields every metric that the fields of a dataclass were declared with, and its value."""
    for one in fields(stats):
        yield one.metadata["metric"], getattr(stats, one.name)


_JUDGED = "Frames, by what the gate made of them."
_ENDED = "Questions, by how they ended."
_DEGRADED = "Blocks on disk, by what became of them."


@dataclass(slots=True, kw_only=True)
class EngineCounters:
    """What has been done since the engine began.

    A session counts its own dropped frames and degraded blocks; they are added here when it is closed.
    """

    n_steps: int = counter("steps", "Steps of the engine.")
    n_frames: int = counter("frames_watched", "Frames watched.")
    n_dropped: int = counter("frames_dropped", "Frames dropped because newer ones came before they could be watched.")
    n_clear: int = counter("frames_judged", _JUDGED, fidelity="clear")
    n_fuzzy: int = counter("frames_judged", _JUDGED, fidelity="fuzzy")
    n_discarded: int = counter("frames_judged", _JUDGED, fidelity="discarded")
    n_answers: int = counter("questions", _ENDED, outcome="answered")
    n_cancelled: int = counter("questions", _ENDED, outcome="cancelled")
    n_refused: int = counter("questions", _ENDED, outcome="refused")
    n_tokens: int = counter("generation_tokens", "Tokens of answers.")
    n_fired: int = counter("standing_questions_fired", "Times that standing questions fired.")
    n_faded: int = counter("kv_blocks_degraded", _DEGRADED, step="faded")
    n_dropped_blocks: int = counter("kv_blocks_degraded", _DEGRADED, step="dropped")
    n_damaged: int = counter("kv_blocks_degraded", _DEGRADED, step="damaged")
