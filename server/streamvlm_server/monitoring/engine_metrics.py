"""The engine's own counts, read anew for every scrape: sums over sessions, never one line a session."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamvlm.engine.counters import MetricKind, metrics_of
from streamvlm.engine.engine import Engine

_FAMILIES = {MetricKind.COUNTER: CounterMetricFamily, MetricKind.GAUGE: GaugeMetricFamily}


class EngineCollector(Collector):
    """Turns ``Engine.stats`` into Prometheus' families: a count that is declared there shows here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yields every family, as of now."""
        model = GaugeMetricFamily("streamvlm_model_info", "The model that is served.", labels=["model_name"])
        model.add_metric([self._engine.model.name], 1)
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, value in metrics_of(self._engine.stats()):
            if metric.name not in families:
                family = _FAMILIES[metric.kind]
                families[metric.name] = family(f"streamvlm_{metric.name}", metric.help, labels=list(metric.labels))
            families[metric.name].add_metric(list(metric.labels.values()), value)
        yield from (model, *families.values())
