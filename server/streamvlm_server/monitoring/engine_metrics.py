"""The engine's own counts, read anew for every scrape: sums over sessions, never one line a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamvlm.engine.engine import Engine
from streamvlm.engine.reports import EngineStats


class EngineCollector(Collector):
    """Turns ``Engine.stats`` into Prometheus' families."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yields every family, as of now."""
        stats = self._engine.stats()
        yield _labelled(
            GaugeMetricFamily, "model_info", "The model that is served.", "model_name", {self._engine.model.name: 1}
        )
        yield from _gauges(stats)
        yield from _counters(stats)


def _gauges(stats: EngineStats) -> Iterator[Metric]:
    one = {
        "num_sessions_running": (stats.n_sessions, "Sessions open."),
        "num_sessions_max": (stats.max_sessions, "Sessions that may be open."),
        "num_requests_running": (stats.n_questions - stats.n_questions_waiting, "Questions that are being answered."),
        "num_requests_waiting": (stats.n_questions_waiting, "Questions that wait for frames or for their turn."),
        "frames_waiting": (stats.n_waiting, "Frames that wait to be watched."),
        "ingest_lag_seconds": (stats.lag_s, "Stream time by which the session furthest behind is behind."),
        "frame_age_seconds": (stats.wait_s, "From a frame's coming to its being remembered, in the slowest session."),
    }
    for name, (value, says) in one.items():
        yield GaugeMetricFamily(f"streamvlm_{name}", says, value)
    tiers = {
        "device": (stats.device_bytes, stats.device_budget_bytes),
        "host": (stats.host_bytes, stats.host_budget_bytes),
        "disk": (stats.disk_bytes, stats.disk_budget_bytes),
    }
    used = {tier: used_bytes for tier, (used_bytes, _) in tiers.items()}
    yield _labelled(GaugeMetricFamily, "kv_bytes", "Bytes of blocks.", "tier", used)
    shares = {tier: used_bytes / most_bytes for tier, (used_bytes, most_bytes) in tiers.items()}
    yield _labelled(GaugeMetricFamily, "kv_cache_usage_perc", "Share of the budget in use.", "tier", shares)
    blocks = {"clear": stats.n_clear_blocks, "fuzzy": stats.n_fuzzy_blocks}
    yield _labelled(GaugeMetricFamily, "kv_blocks", "Blocks remembered.", "fidelity", blocks)


def _counters(stats: EngineStats) -> Iterator[Metric]:
    one = {
        "steps": (stats.n_steps, "Steps of the engine."),
        "busy_seconds": (stats.busy_s, "Time spent in steps."),
        "generation_tokens": (stats.n_tokens, "Tokens of answers."),
        "frames_watched": (stats.n_frames, "Frames watched."),
        "frames_dropped": (stats.n_dropped, "Frames dropped because newer ones came before they could be watched."),
    }
    for name, (value, says) in one.items():
        yield CounterMetricFamily(f"streamvlm_{name}", says, value)
    judged = {"clear": stats.n_clear, "fuzzy": stats.n_fuzzy, "discarded": stats.n_discarded}
    yield _labelled(CounterMetricFamily, "frames_judged", "Frames, by what the gate made of them.", "fidelity", judged)
    degraded = {step: stats.n_degraded[step] for step in ("faded", "dropped", "damaged")}
    yield _labelled(
        CounterMetricFamily, "kv_blocks_degraded", "Blocks on disk, by what became of them.", "step", degraded
    )
    ended = {"answered": stats.n_answers, "cancelled": stats.n_cancelled, "refused": stats.n_refused}
    yield _labelled(CounterMetricFamily, "questions", "Questions, by how they ended.", "outcome", ended)


def _labelled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    says: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(f"streamvlm_{name}", says, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
