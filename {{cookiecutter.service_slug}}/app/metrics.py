"""The metrics of the service, as Prometheus scrapes them from `/metrics`.

`app.watch` counts the answers, `app.limits` what it turns away, `app.service` the calls
of the model and `app.api` the predictions. No label takes a value that a client can
make up: routes and the model's labels bound the number of series.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from app.batching import Predict
from app.container import cpu_limit, memory_limit
from app.contract import Instance
from app.model import Model, Probabilities

# What OpenTelemetry advises for http.server.request.duration.
REQUEST_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
MODEL_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
SCORES = tuple(tenths / 10 for tenths in range(1, 11))

# A second time series for each counter and histogram, which nothing here asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one service, in a registry of their own.

    `labels()` of prometheus_client takes a lock and a dozen steps, so what it gives is
    kept in dicts, and a request pays for a look-up and an addition.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        """`ready` is asked at each scrape whether the service takes traffic."""
        self.registry = CollectorRegistry()
        self.in_flight = 0
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._predictions: dict[str, Counter] = {}

        self._requests = Counter(
            "http_requests_total",
            "Answers, by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "http_request_duration_seconds",
            "From the first byte of a request to the last byte of its answer.",
            ("route",),
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self._shed = Counter(
            "http_requests_shed_total",
            "Requests turned away because MAX_CONCURRENCY were in work.",
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "model_batch_size",
            "Instances in a call of the model.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        self._model_seconds = Histogram(
            "model_duration_seconds",
            "Time of a call of the model.",
            buckets=MODEL_SECONDS,
            registry=self.registry,
        )
        self._predicted = Counter(
            "predictions_total",
            "Predictions, by label.",
            ("label",),
            registry=self.registry,
        )
        self._scores = Histogram(
            "prediction_score",
            "Score of the predicted label.",
            buckets=SCORES,
            registry=self.registry,
        )
        self._training_share = Gauge(
            "model_training_label_share",
            "Share of a label in the rows that the model was trained on.",
            ("label",),
            registry=self.registry,
        )
        self._model_info = Gauge(
            "model_info",
            "Always 1: the labels tell which model is served.",
            ("version", "data_hash", "trained_at"),
            registry=self.registry,
        )
        self._at_scrape(
            "http_requests_in_flight",
            "Requests in work; probes and scrapes do not count.",
            lambda: self.in_flight,
        )
        self._at_scrape(
            "service_ready", "1 while the service takes traffic, else 0.", ready
        )
        ProcessCollector(registry=self.registry)
        self._at_scrape(
            "process_cpu_limit_cores", "CPUs that the process may use.", cpu_limit
        )
        self._at_scrape(
            "process_memory_limit_bytes",
            "Memory that the process may use.",
            memory_limit,
        )
        # The only file system that a locked-down container can write to.
        directory = tempfile.gettempdir()
        self._at_scrape(
            "disk_free_bytes",
            "Free space where temporary files go.",
            lambda: shutil.disk_usage(directory).free,
        )
        self._at_scrape(
            "disk_size_bytes",
            "Size of the file system where temporary files go.",
            lambda: shutil.disk_usage(directory).total,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer. Route and method must come from a bounded set."""
        key = (route, method, status)
        children = self._answers.get(key)
        if children is None:
            children = self._answers[key] = (
                self._requests.labels(route, method, status),
                self._request_seconds.labels(route),
            )
        answers, durations = children
        answers.inc()
        durations.observe(seconds)

    def shed(self) -> None:
        """Count a request that was turned away."""
        self._shed.inc()

    def timed(self, predict: Predict) -> Predict:
        """The same function, with its calls counted and timed."""

        def measured(instances: Sequence[Instance]) -> Probabilities:
            self._batch_size.observe(len(instances))
            start = perf_counter()
            try:
                return predict(instances)
            finally:
                self._model_seconds.observe(perf_counter() - start)

        return measured

    def serves(self, model: Model) -> None:
        """Tell which model is served, and start to count its labels from zero."""
        info = model.info
        trained_at = info.trained_at.isoformat()
        self._model_info.labels(info.version, info.data_hash, trained_at).set(1)
        for label, share in model.training_label_shares.items():
            self._training_share.labels(label).set(share)
        for label in model.labels:
            self._predictions[label] = self._predicted.labels(label)

    def predicted(self, label: str, score: float) -> None:
        """Count a prediction; `serves` must have told its label."""
        self._predictions[label].inc()
        self._scores.observe(score)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """All metrics, in the form that an Accept header asks for; its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _at_scrape(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)
