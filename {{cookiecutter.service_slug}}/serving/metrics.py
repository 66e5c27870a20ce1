"""The metrics of the service, which Prometheus scrapes from `/metrics`.

`serving.access` counts responses, `serving.admission` rejections, `serving.service`
calls of the model, and the endpoints count their predictions. Clients cannot invent
label values: routes, tenants and the labels of the model bound the number of series.
"""

import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from threading import Lock
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
from serving.contract import TENTHS, ModelInfo
from serving.model import Answer
from serving.requests import Outcome

Given = TypeVar("Given")
Result = TypeVar("Result")

# The buckets that OpenTelemetry recommends for http.server.request.duration.
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

# Nothing here uses the `_created` series of counters and histograms.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Histogram:
    """A histogram without locks: counts of values by bucket, and their sum.

    Only one thread at a time may add to it. With prometheus_client's Counter and
    Histogram, whose locks take time, the metrics of a request cost 7 µs; they cost 3.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: "Histogram") -> None:
        """Add the counts and the sum of a histogram with the same buckets."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound with the number of values up to it."""
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Metrics(Collector):
    """The metrics of one service, in a separate registry.

    Requests and predictions are counted in instances of `Histogram`, which `collect`
    exposes. Everything else is a metric of prometheus_client.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        in_flight: Callable[[], int],
        lines_dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        """Call `ready`, `in_flight` and `lines_dropped` at each scrape."""
        self.registry = CollectorRegistry()
        self._lines_dropped = lines_dropped
        self._tenants: dict[str, int] = {}
        self._answers: dict[Outcome, Histogram] = {}
        self._predictions: dict[str, Histogram] = {}  # scores by label
        self._values = Histogram(())  # of a regression
        self._abstentions = 0
        self._batch_size = Histogram(BATCH_SIZES)
        self._model_seconds = Histogram(MODEL_SECONDS)

        self.registry.register(self)
        self._shed = Counter(
            "http_requests_shed_total",
            "Requests rejected: too many, or too many bytes of them, were in work.",
            registry=self.registry,
        )
        self._connections_ended = Counter(
            "http_connections_ended_total",
            "Connections that a bound ended, by the bound.",
            ("reason",),
            registry=self.registry,
        )
        self._training_share = Gauge(
            "model_training_label_share",
            "Share of a label, or a tenth, in the rows that the model was trained on.",
            ("label",),
            registry=self.registry,
        )
        self._model_info = Gauge(
            "model_info",
            "Always 1: the labels tell which model is served.",
            ("version", "data_hash", "trained_at"),
            registry=self.registry,
        )
        self._add_gauge(
            "http_requests_in_flight",
            "Requests in work; probes and scrapes do not count.",
            in_flight,
        )
        self._add_gauge(
            "service_ready", "1 while the service takes traffic, else 0.", ready
        )
        self._add_resources()

    def _add_gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def _add_resources(self) -> None:
        """Add what the process uses, and the limits of it."""
        ProcessCollector(registry=self.registry)
        self._add_gauge(
            "process_cpu_limit_cores", "CPUs that the process may use.", cpu_limit
        )
        self._add_gauge(
            "process_memory_limit_bytes",
            "Memory that the process may use.",
            memory_limit,
        )
        # The only file system that a read-only container can write to.
        directory = tempfile.gettempdir()
        self._add_gauge(
            "disk_free_bytes",
            "Free space where temporary files go.",
            lambda: shutil.disk_usage(directory).free,
        )
        self._add_gauge(
            "disk_size_bytes",
            "Size of the file system where temporary files go.",
            lambda: shutil.disk_usage(directory).total,
        )

    def record_response(
        self, outcome: Outcome, seconds: float, tenant: str | None = None
    ) -> None:
        """Count a response by its outcome and its tenant, which must be configured."""
        histogram = self._answers.get(outcome)
        if histogram is None:
            histogram = self._answers[outcome] = Histogram(REQUEST_SECONDS)
        histogram.add(seconds)
        if tenant is not None:
            self._tenants[tenant] = self._tenants.get(tenant, 0) + 1

    def record_rejection(self) -> None:
        """Count a request that a limit rejected."""
        self._shed.inc()

    def record_connection_end(self, reason: str) -> None:
        """Count a connection that a bound ended."""
        self._connections_ended.labels(reason).inc()

    def measure_calls(
        self, call: Callable[[Sequence[Given]], Result]
    ) -> Callable[[Sequence[Given]], Result]:
        """Wrap a call of the model so that batch size and duration are recorded."""

        lock = Lock()  # calls may run in several threads

        def measured(instances: Sequence[Given]) -> Result:
            start = perf_counter()
            try:
                return call(instances)
            finally:
                with lock:
                    self._batch_size.add(len(instances))
                    self._model_seconds.add(perf_counter() - start)

        return measured

    def describe_model(
        self, info: ModelInfo, training_shares: Mapping[str, float]
    ) -> None:
        """Expose the served model, and start the counts of its outcomes at zero."""
        trained_at = info.trained_at.isoformat()
        self._model_info.labels(info.version, info.data_hash, trained_at).set(1)
        for outcome, share in training_shares.items():
            self._training_share.labels(outcome).set(share)
        for label in info.labels:
            self._predictions[label] = Histogram(SCORES)
        self._values = Histogram(info.deciles[1:-1])

    def record_prediction(self, answer: Answer) -> None:
        """Count an answer of the model that `describe_model` was given."""
        if answer.value is not None:
            self._values.add(answer.value)
        elif answer.label is not None and answer.score is not None:
            self._predictions[answer.label].add(answer.score)
            self._abstentions += answer.abstained

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics kept in histograms, for prometheus_client."""
        yield CounterMetricFamily(
            "log_lines_dropped_total",
            "Log lines that stderr did not take in time.",
            value=self._lines_dropped(),
        )
        yield from self._collect_requests()
        yield from self._collect_predictions()
        yield _expose(
            "model_batch_size", "Instances in a call of the model.", self._batch_size
        )
        yield _expose(
            "model_duration_seconds",
            "Time of a call of the model.",
            self._model_seconds,
        )

    def _collect_requests(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "http_requests_total",
            "Answers, by route, method and status.",
            labels=("route", "method", "status"),
        )
        by_route: dict[str, Histogram] = {}
        for (route, method, status), histogram in self._answers.items():
            answers.add_metric((route, method, str(status)), sum(histogram.counts))
            by_route.setdefault(route, Histogram(REQUEST_SECONDS)).merge(histogram)
        yield answers

        durations = HistogramMetricFamily(
            "http_request_duration_seconds",
            "From the first byte of a request to the last byte of its answer.",
            labels=("route",),
        )
        for route, histogram in by_route.items():
            durations.add_metric((route,), histogram.buckets(), histogram.sum)
        yield durations

        tenants = CounterMetricFamily(
            "http_requests_by_tenant_total",
            "Answers to requests with a known API key, by its name.",
            labels=("tenant",),
        )
        for tenant, count in self._tenants.items():
            tenants.add_metric((tenant,), count)
        yield tenants

    def _collect_predictions(self) -> Iterator[Metric]:
        predictions = CounterMetricFamily(
            "predictions_total",
            "Predictions, by label; of a number, by the tenth of the training values.",
            labels=("label",),
        )
        scores = Histogram(SCORES)
        for label, histogram in self._predictions.items():
            predictions.add_metric((label,), sum(histogram.counts))
            scores.merge(histogram)
        if self._values.bounds:
            for name, count in zip(TENTHS, self._values.counts, strict=True):
                predictions.add_metric((name,), count)
        yield predictions
        yield CounterMetricFamily(
            "predictions_abstained_total",
            "Predictions whose score was below the threshold.",
            value=self._abstentions,
        )
        yield _expose("prediction_score", "Score of the predicted label.", scores)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format of an Accept header, and its media type."""
        try:
            # The media type repeats the version that was asked for.
            encode, media_type = choose_encoder(accept if len(accept) < 1_000 else "")
        except (TypeError, ValueError):  # a version that is no version
            encode, media_type = choose_encoder("")
        return encode(self.registry), media_type


def _expose(name: str, meaning: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(
        name, meaning, buckets=histogram.buckets(), sum_value=histogram.sum
    )
