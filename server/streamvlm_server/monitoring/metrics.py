"""Metrics for Prometheus: vLLM's names where it has them, under our own prefix; labels have few values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streamvlm.engine.engine import Engine
from streamvlm.session.answer import Answer
from streamvlm_server.chat.admission_queue import AdmissionQueue
from streamvlm_server.monitoring.engine_metrics import EngineCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "streamvlm"
_LOOP_EVERY_S = 0.5
_ANSWER_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 180.0, 600.0)
_TOKEN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_BLOCKS = (0, 1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts answers, errors and connections; reads the engine's own counts when Prometheus asks.

    Args:
        engine: Gives the engine's counts.
        admission_queue: Gives the number of requests that wait.

    Attributes:
        started_unix_s: When the server began.
    """

    def __init__(self, engine: Engine, admission_queue: AdmissionQueue) -> None:
        self.started_unix_s = int(time.time())
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(engine))
        Gauge(
            "num_requests_without_session", "Requests that wait while all sessions are in use.",
            namespace=_PREFIX, registry=self._registry,
        ).set_function(lambda: admission_queue.n_waiting)  # fmt: skip
        self._ttft = self._histogram("time_to_first_token_seconds", "From the question to its first words.", _ANSWER_S)
        self._between = self._histogram("inter_token_latency_seconds", "Between one token and the next.", _TOKEN_S)
        self._queued = self._histogram("request_queue_time_seconds", "From the question to its beginning.", _ANSWER_S)
        self._prefill = self._histogram(
            "request_prefill_time_seconds", "From a question's beginning to its first words.", _ANSWER_S
        )
        self._decode = self._histogram("request_decode_time_seconds", "From the first words to the end.", _ANSWER_S)
        self._whole = self._histogram("e2e_request_latency_seconds", "From the question to its end.", _ANSWER_S)
        self._read = self._histogram("request_prompt_tokens", "Tokens that an answer attended to.", _TOKENS)
        self._written = self._histogram("request_generation_tokens", "Tokens of an answer.", _TOKENS)
        self._retrieved = self._histogram("retrieved_blocks", "Blocks fetched for a question.", _BLOCKS)
        self._loop_lag = self._histogram("event_loop_lag_seconds", "How late the event loop wakes.", _TOKEN_S)
        self._prompt = Counter(
            "prompt_tokens", "Tokens that answers attended to.", namespace=_PREFIX, registry=self._registry
        )
        self._ended = Counter(
            "request_success", "Answers, by why they ended.", ["finished_reason"],
            namespace=_PREFIX, registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "request_errors", "Errors told to clients.", ["code"], namespace=_PREFIX, registry=self._registry
        )
        self._frames_refused = Counter(
            "frames_refused", "Frames that never reached a session.", ["reason"],
            namespace=_PREFIX, registry=self._registry,
        )  # fmt: skip
        self._frames_refused.labels("late")
        self._closed = Counter("ws_closed", "WebSockets closed.", ["code"], namespace=_PREFIX, registry=self._registry)

    def answered(self, answer: Answer, reason: str) -> None:
        """Counts an answer that has ended: by ``stop``, ``length`` or ``abort``."""
        self._ended.labels(reason).inc()
        took = answer.timings
        self._queued.observe(took.queued_s)
        if answer.tokens.answer:
            self._ttft.observe(took.ttft_s)
            self._prefill.observe(took.ttft_s - took.queued_s)
            self._decode.observe(took.total_s - took.ttft_s)
        self._whole.observe(took.total_s)
        n_read = answer.tokens.context + answer.tokens.question
        self._read.observe(n_read)
        self._prompt.inc(n_read)
        self._written.observe(answer.tokens.answer)
        self._retrieved.observe(len(answer.retrieved))
        if answer.tokens.answer > 1:
            self._between.observe((took.total_s - took.ttft_s) / (answer.tokens.answer - 1))

    def refused(self, code: str) -> None:
        """Counts an error sent to a client, by its code (see ``errors.WIRE``)."""
        self._refused.labels(code).inc()

    def frame_refused(self, reason: str, n_frames: int = 1) -> None:
        """Counts frames that never reached a session: as ``late``, or by the code of their error."""
        self._frames_refused.labels(reason).inc(n_frames)

    def ws_closed(self, code: int) -> None:
        """Counts a WebSocket that has closed."""
        self._closed.labels(str(code)).inc()

    def exposition(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    @asynccontextmanager
    async def watching_loop(self) -> AsyncIterator[None]:
        """Measures how late the event loop wakes, as long as the server runs."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch_loop())
            yield
            watching.cancel()

    async def _watch_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            slept_from_s = loop.time()
            await asyncio.sleep(_LOOP_EVERY_S)
            self._loop_lag.observe(max(0.0, loop.time() - slept_from_s - _LOOP_EVERY_S))

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, says, namespace=_PREFIX, buckets=buckets, registry=self._registry)
