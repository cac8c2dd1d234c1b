"""Metrics for Prometheus and logs for people: neither ever holds anything of a request.

Label values come from fixed lists (routes, codes, events), so the number of series does not grow with
traffic; versions appear only while they are loaded.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickscale.inference.states.cache import StateCache
from clickscale.serving.engine import Engine
from clickscale.serving.versions.model_versions import ModelVersions

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_COUNTED = (
    ("hits", "asks whose state was kept"),
    ("appends", "asks whose state of older behaviors was kept"),
    ("shared", "asks whose state another request was computing"),
    ("misses", "asks without a kept state"),
    ("rebuilds", "asks whose kept state was of other behaviors"),
    ("evictions", "states deleted for room"),
    ("errors", "failures inside the cache that cost no request"),
    ("audits", "hits that were computed again"),
)


class Telemetry:
    """Metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU, open files
        self.answers = Counter(
            "clickscale_answers", "Answers by route and code.", ["route", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "clickscale_answer_seconds",
            "From the first byte to the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waited = Histogram(
            "clickscale_queue_seconds", "From arrival to a worker.", buckets=_SECONDS, registry=self.registry
        )
        self.candidates = Counter(
            "clickscale_candidates", "Candidates that were scored.", registry=self.registry
        )
        self.unknown = Counter(
            "clickscale_unknown", "Ids that training did not see.", ["kind"], registry=self.registry
        )
        self.not_finite = Counter(
            "clickscale_scores_not_finite", "Requests with such a score.", registry=self.registry
        )
        self.degraded = Counter(
            "clickscale_store_failures", "Requests scored without the store.", registry=self.registry
        )
        self.events = Counter(
            "clickscale_events", "Events by what became of them.", ["outcome"], registry=self.registry
        )
        self.changes = Counter(
            "clickscale_model_changes", "Changes of versions.", ["event"], registry=self.registry
        )
        self.score = Histogram(
            "clickscale_probability",
            "Probabilities of the first label, one candidate of each request.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0),
            registry=self.registry,
        )

    def watch(self, engine: Engine, versions: ModelVersions, cache: StateCache | None) -> None:
        """Let a scrape read the engine, the versions and the cache."""
        self.registry.register(_Live(engine, versions, cache))

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _Live(Collector):
    """Numbers that are read at the moment of a scrape."""

    def __init__(self, engine: Engine, versions: ModelVersions, cache: StateCache | None) -> None:
        self._engine, self._versions, self._cache = engine, versions, cache

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        engine, stats = self._engine, self._engine.stats
        yield _gauge("clickscale_queue_jobs", "Requests that wait.", engine.waiting)
        yield _gauge("clickscale_queue_expected_seconds", "Expected wait.", engine.expected_wait())
        yield _counter("clickscale_batches", "Batches that were scored.", stats.batches)
        yield _counter("clickscale_batched_requests", "Requests in them.", stats.jobs)
        yield _counter("clickscale_abandoned", "Requests whose client did not wait.", stats.abandoned)
        yield _counter("clickscale_expired", "Requests whose deadline passed.", stats.expired)
        yield from self._models()
        yield from self._states()

    def _models(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "clickscale_model_loaded",
            "1 for each version; state tells what it does.",
            labels=["version", "state"],
        )
        for model in self._versions.facts()["models"]:
            if model["state"] != "refused":
                held.add_metric([model["version"], model["state"]], 1)
        yield held
        if (trial := self._versions.trial) is not None:
            yield _gauge("clickscale_trial_mean_ratio", "Mean probability, newer over older.", trial.drift)
            yield _gauge("clickscale_trial_largest_difference", "Of a probability.", trial.largest)

    def _states(self) -> Iterator[Metric]:
        if self._cache is None:
            return
        stats = self._cache.stats()
        for name, text in _COUNTED:
            yield _counter(f"clickscale_state_cache_{name}", f"State cache: {text}.", getattr(stats, name))
        yield _gauge("clickscale_state_cache_bytes", "Bytes of all kept states.", stats.bytes)
        yield _gauge("clickscale_state_cache_entries", "Kept states.", stats.entries)
        yield _gauge("clickscale_state_cache_on", "0 after an audit that failed.", float(stats.enabled))
        yield _gauge(
            "clickscale_state_cache_audit_max_abs_diff", "Of a logit, in audits.", stats.audit_max_abs_diff
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def log_as_json() -> None:
    """Write what the package and the server log to stderr, a JSON object a line."""
    for name in ("clickscale", "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers[:] = [JsonLines()]
        log.propagate = False
    logging.getLogger("clickscale").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class JsonLines(logging.Handler):
    """Writes each record as a line of JSON: time, level, event, and what ``extra={"fields": ...}`` gives.

    A traceback is reduced to the places that it names: its values could be those of a user. A line that
    cannot be written is dropped.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _places(record)
        # A full disk, or a reader of the log that went away, must cost no answer and no worker.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._stream.flush()


def _places(record: logging.LogRecord) -> list[str]:
    """File and line of each frame of a traceback, innermost last."""
    trace = record.exc_info[2] if record.exc_info else None
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places[-8:]
