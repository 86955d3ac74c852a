from __future__ import annotations

from dataclasses import fields

from live_server import wait_until
from prometheus_client import CollectorRegistry
from tiny_model import TinyModel, colour

from streamvlm.engine.config import EngineConfig
from streamvlm.engine.counters import metrics_of
from streamvlm.engine.engine import Engine
from streamvlm.engine.reports import EngineStats
from streamvlm.session.config import SessionConfig
from streamvlm.session.standing_question import StandingQuestion
from streamvlm_server.monitoring.engine_metrics import EngineCollector

ALWAYS = StandingQuestion("abc?", threshold=1e-9, release=0.0, every_s=1e-3, cool_down_s=0.0)
TINY = SessionConfig(host_budget_bytes=1 << 20)


def test_every_count_of_the_engine_is_shown_with_the_value_that_it_has(device: str) -> None:
    registry = CollectorRegistry()
    with Engine(TinyModel(device), EngineConfig(session=TINY)) as engine:
        registry.register(EngineCollector(engine))
        live = engine.open()
        live.arm(ALWAYS)
        for second in range(3):
            live.offer(colour(second), time_s=float(second), keep=True)
        wait_until(lambda: live.stats().n_waiting == 0 and engine.stats().n_fired > 0)
        live.close()
        stats = engine.stats()
        assert stats.n_fired > 0
        assert stats.n_clear + stats.n_fuzzy + stats.n_discarded == stats.n_frames == 3
        assert len(list(metrics_of(stats))) == len(fields(EngineStats))
        for metric, value in metrics_of(stats):
            ending = "_total" if metric.kind == "counter" else ""
            shown = registry.get_sample_value(f"streamvlm_{metric.name}{ending}", dict(metric.labels))
            assert shown is not None
            assert shown >= value if metric.name == "up_seconds" else shown == value
