"""FastAPI and ONNX Runtime, as an experienced engineer writes it for production.

It validates, counts, times, logs and gives ids as the service does, with the ordinary
means: pure ASGI middleware, prometheus_client, the logging of Python.
"""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

REQUESTS = Counter("requests_total", "Answers.", ("path", "method", "status"))
SECONDS = Histogram("request_seconds", "Time to answer.", ("path",))

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("access")

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(
    Path(os.environ["MODEL_DIR"]) / "model.onnx",
    options,
    providers=["CPUExecutionProvider"],
)


class Instance(BaseModel):
    """The 30 measurements of a tumour."""

    model_config = ConfigDict(extra="forbid")

    features: Annotated[list[FiniteFloat], Field(min_length=30, max_length=30)]


class Prediction(BaseModel):
    """The probabilities of malignant and benign."""

    probabilities: list[float]


class Observe:
    """ASGI middleware: an id, a log line and metrics for every request."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        start = time.perf_counter()
        status = 500
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id") or uuid.uuid4().hex.encode()

        async def observed_send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id))
            await send(message)

        try:
            await self.app(scope, receive, observed_send)
        finally:
            seconds = time.perf_counter() - start
            route = scope.get("route")
            path = route.path if route else "unmatched"
            REQUESTS.labels(path, scope["method"], status).inc()
            SECONDS.labels(path).observe(seconds)
            line = {
                "time": time.time(),
                "level": "info",
                "request_id": request_id.decode("latin-1"),
                "method": scope["method"],
                "path": path,
                "status": status,
                "seconds": round(seconds, 6),
            }
            log.info(json.dumps(line))


app = FastAPI()
app.add_middleware(Observe)


@app.post("/predict")
async def predict(instance: Instance) -> Prediction:
    """Tell malignant from benign."""
    features = np.array([instance.features], dtype=np.float32)
    (rows,) = session.run(["probabilities"], {"features": features})
    return Prediction(probabilities=rows[0].tolist())


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Answer readiness: the model is loaded with the module."""
    return {"status": "ready"}


@app.get("/metrics")
async def metrics() -> Response:
    """Return what Prometheus scrapes."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
