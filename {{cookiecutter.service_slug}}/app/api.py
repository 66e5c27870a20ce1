"""The endpoints of the service."""

import asyncio
import logging
from os import urandom

from fastapi import APIRouter

from app.contract import Instance, Prediction, PredictRequest, PredictResponse
from app.settings import Settings
from serving.contract import ModelInfo
from serving.problems import documented
from serving.service import Service

logger = logging.getLogger(__name__)


def router(service: Service[Instance], settings: Settings) -> APIRouter:
    """Return the endpoints of a service."""
    api = APIRouter(prefix="/v1", redirect_slashes=False)

    @api.post("/predict", response_model_exclude_none=True)
    async def predict(request: PredictRequest) -> PredictResponse:
        """Classify one or more instances."""
        model = service.model
        predictions: list[Prediction] = []
        for label, score, row in await service.batcher.submit(request.instances):
            service.metrics.record_prediction(label, score)
            probabilities = None
            if request.probabilities:
                probabilities = dict(zip(model.labels, row.tolist(), strict=True))
            predictions.append(
                Prediction(
                    id=urandom(16).hex(),
                    label=label,
                    score=score,
                    probabilities=probabilities,
                )
            )
            if len(predictions) % 100 == 0:
                await asyncio.sleep(0)  # let other requests have their turn
        if settings.log_texts:
            texts = [instance.model_dump() for instance in request.instances]
            labels = [prediction.label for prediction in predictions]
            logger.info("Predicted", extra={"instances": texts, "labels": labels})
        return PredictResponse(predictions=predictions, model_version=model.version)

    @api.get("/model", responses=documented(503))
    async def model() -> ModelInfo:
        """Return the version, metrics and origin of the served model."""
        return service.model.info

    return api
