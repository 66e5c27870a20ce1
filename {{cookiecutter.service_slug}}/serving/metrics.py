"""The metrics of the service, as Prometheus scrapes them from `/metrics`.

`serving.access` counts the answers, `serving.admission` what it rejects,
`serving.service` the calls of the model and the endpoints their predictions. No label
takes a value that a client can make up: routes, tenants and the model's labels bound
the number of series.
"""

import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import perf_counter
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from serving.container import cpu_limit, memory_limit
from serving.requests import Outcome

Given = TypeVar("Given")
Answer = TypeVar("Answer")

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


class Tally:
    """Values counted in buckets, and their sum.

    prometheus_client's Counter and Histogram take locks: as what every request adds
    to, they cost it about six microseconds, and tallies one. Only one thread at a time
    may add to a tally.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value; a bucket holds what is at most its bound."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: "Tally") -> None:
        """Add all that another tally has counted in the same buckets."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with the count of what is at most that."""
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Metrics(Collector):
    """The metrics of one service, in a registry of their own.

    What a request or a prediction adds to is a tally, which `collect` hands to a
    scrape; all else is prometheus_client's.
    """

    def __init__(self, ready: Callable[[], bool], in_flight: Callable[[], int]) -> None:
        """Both are asked at each scrape: `ready` whether the service takes traffic."""
        self.registry = CollectorRegistry()
        self._tenants: dict[str, int] = {}
        self._answers: dict[Outcome, Tally] = {}
        self._predictions: dict[str, Tally] = {}
        self._batch_size = Tally(BATCH_SIZES)
        self._model_seconds = Tally(MODEL_SECONDS)

        self.registry.register(self)
        self._shed = Counter(
            "http_requests_shed_total",
            "Requests rejected: too many, or too many bytes of them, were in work.",
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
            in_flight,
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

    def record_response(
        self, outcome: Outcome, seconds: float, tenant: str | None = None
    ) -> None:
        """Count an answer, and for whom: a name that the configuration knows."""
        tally = self._answers.get(outcome)
        if tally is None:
            tally = self._answers[outcome] = Tally(REQUEST_SECONDS)
        tally.add(seconds)
        if tenant is not None:
            self._tenants[tenant] = self._tenants.get(tenant, 0) + 1

    def record_rejection(self) -> None:
        """Count a request that was rejected for want of room."""
        self._shed.inc()

    def timed(
        self, call: Callable[[Sequence[Given]], Answer]
    ) -> Callable[[Sequence[Given]], Answer]:
        """Return the same function, with its calls and what they are given counted."""

        def measured(instances: Sequence[Given]) -> Answer:
            self._batch_size.add(len(instances))
            start = perf_counter()
            try:
                return call(instances)
            finally:
                self._model_seconds.add(perf_counter() - start)

        return measured

    def describe_model(
        self,
        version: str,
        data_hash: str,
        trained_at: str,
        labels: Iterable[str],
        training_shares: Mapping[str, float],
    ) -> None:
        """Tell which model is served, and start to count its labels from zero."""
        self._model_info.labels(version, data_hash, trained_at).set(1)
        for label, share in training_shares.items():
            self._training_share.labels(label).set(share)
        for label in labels:
            self._predictions[label] = Tally(SCORES)

    def record_prediction(self, label: str, score: float) -> None:
        """Count a prediction; `describe_model` must have told its label."""
        self._predictions[label].add(score)

    def collect(self) -> Iterator[Metric]:
        """What the tallies hold: prometheus_client asks at each scrape."""
        answers = CounterMetricFamily(
            "http_requests_total",
            "Answers, by route, method and status.",
            labels=("route", "method", "status"),
        )
        by_route: dict[str, Tally] = {}
        for (route, method, status), tally in self._answers.items():
            answers.add_metric((route, method, str(status)), sum(tally.counts))
            by_route.setdefault(route, Tally(REQUEST_SECONDS)).merge(tally)
        yield answers

        durations = HistogramMetricFamily(
            "http_request_duration_seconds",
            "From the first byte of a request to the last byte of its answer.",
            labels=("route",),
        )
        for route, tally in by_route.items():
            durations.add_metric((route,), tally.buckets(), tally.sum)
        yield durations

        tenants = CounterMetricFamily(
            "http_requests_by_tenant_total",
            "Answers to requests with a known API key, by its name.",
            labels=("tenant",),
        )
        for tenant, count in self._tenants.items():
            tenants.add_metric((tenant,), count)
        yield tenants

        predictions = CounterMetricFamily(
            "predictions_total", "Predictions, by label.", labels=("label",)
        )
        scores = Tally(SCORES)
        for label, tally in self._predictions.items():
            predictions.add_metric((label,), sum(tally.counts))
            scores.merge(tally)
        yield predictions

        for name, meaning, tally in (
            ("prediction_score", "Score of the predicted label.", scores),
            (
                "model_batch_size",
                "Instances in a call of the model.",
                self._batch_size,
            ),
            (
                "model_duration_seconds",
                "Time of a call of the model.",
                self._model_seconds,
            ),
        ):
            yield HistogramMetricFamily(
                name, meaning, buckets=tally.buckets(), sum_value=tally.sum
            )

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """All metrics, in the form that an Accept header asks for; its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _at_scrape(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)
