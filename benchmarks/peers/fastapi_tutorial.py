"""FastAPI and scikit-learn, as tutorials write it: short, and slow in four places."""

import logging
import os
import uuid
from typing import Any

import joblib
from fastapi import FastAPI, Request
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

model = joblib.load(os.path.join(os.environ["MODEL_DIR"], "model.joblib"))


class Instance(BaseModel):
    """The measurements of a tumour."""

    features: list[float]


class LoggingMiddleware(BaseHTTPMiddleware):
    """An id and a log line for every request."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        """Called for every request."""
        request_id = str(uuid.uuid4())
        response = await call_next(request)
        response.headers["X-Request-ID"] = request_id
        logger.info(f"{request_id} {request.method} {request.url.path}")
        return response


app = FastAPI()
app.add_middleware(LoggingMiddleware)
Instrumentator().instrument(app).expose(app)


@app.post("/predict")
def predict(instance: Instance) -> dict[str, list[float]]:
    """Tell malignant from benign."""
    return {"probabilities": model.predict_proba([instance.features])[0].tolist()}


@app.get("/ready")
def ready() -> dict[str, str]:
    """Answer readiness: the model is loaded with the module."""
    return {"status": "ready"}
