"""Traces, configured by OpenTelemetry's environment variables and off by default.

FastAPI creates the spans. The extra `traces` installs the packages that send them.
"""

import logging
import os
import threading
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.requests import UNLIMITED
from serving.settings import SettingsError

EXIT_SECONDS = 2.0  # how long a collector may take at the exit

logger = logging.getLogger(__name__)
_W3C = TraceContextTextMapPropagator()


def enabled() -> bool:
    """Return whether the environment enables traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if _exporter() == "none":
        return False
    return "OTEL_TRACES_EXPORTER" in os.environ or bool(_endpoint())


def check() -> None:
    """Raise SettingsError, with every reason, if enabled traces cannot be sent."""
    if not enabled():
        return
    mistakes = []
    if find_spec("opentelemetry.exporter") is None:
        mistakes.append(
            "the packages are not installed: add the extra `traces` "
            "(uv sync --inexact --extra traces)"
        )
    if _exporter() != "otlp":
        mistakes.append(f"OTEL_TRACES_EXPORTER={_exporter()!r}: use otlp or none")
    if _protocol() != "http/protobuf":
        mistakes.append(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={_protocol()!r}: use http/protobuf"
        )
    url = urlsplit(_endpoint())
    if url.scheme not in {"http", "https"} or not url.hostname:
        mistakes.append(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={_endpoint()!r}: use the URL of a "
            "collector, like http://127.0.0.1:4318"
        )
    if mistakes:
        raise SettingsError(
            "The environment enables traces, but they cannot be sent:\n  "
            + "\n  ".join(mistakes)
            + "\nCorrect or unset the variables that begin with OTEL_."
        )


def telemetry(name: str, version: str) -> TelemetryConfig:
    """Return FastAPI's telemetry options: a span for each request, or nothing.

    Metrics and logs do not use OpenTelemetry. OTEL_SERVICE_NAME and
    OTEL_RESOURCE_ATTRIBUTES override the given name and version. `shut_down` sends the
    last spans. Raises SettingsError for a variable that the exporter cannot read.
    """
    if not enabled():
        return {"tracing": False, "metrics": False, "logs": False}

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    given = OTELResourceDetector().detect()
    known = Resource({"service.name": name, "service.version": version}).merge(given)
    provider = TracerProvider(
        resource=Resource.create(known.attributes), shutdown_on_exit=False
    )
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise SettingsError(f"The variables that begin with OTEL_: {error}") from None
    return {
        "tracer_provider": provider,
        "tracing": True,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,  # would wait at the exit for a dead collector
        "exclude": lambda scope: scope.get("path") in UNLIMITED,
    }


def shut_down(telemetry: TelemetryConfig) -> None:
    """Send the last spans. Give up on a collector that does not answer in time."""
    provider: Any = telemetry.get("tracer_provider")
    if provider is None:
        return
    thread = threading.Thread(target=provider.shutdown, daemon=True)
    thread.start()
    thread.join(EXIT_SECONDS)
    if thread.is_alive():
        logger.warning("The collector does not answer: the last spans are lost.")


def trace_id(traceparent: bytes | None) -> str | None:
    """Return the trace id of the current span, else of the caller's `traceparent`."""
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN and traceparent is not None:
        carrier = {"traceparent": traceparent.decode("latin-1")}
        span = trace.get_current_span(_W3C.extract(carrier))
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def _exporter() -> str:
    return os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()


def _endpoint() -> str:
    general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or general


def _protocol() -> str:
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or general
