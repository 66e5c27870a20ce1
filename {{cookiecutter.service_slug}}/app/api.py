"""The endpoints of the service."""

import asyncio
import logging
from dataclasses import asdict

from fastapi import APIRouter

from app.contract import Instance, Prediction, PredictRequest, PredictResponse
from app.settings import Settings
from serving.contract import ModelInfo
from serving.problems import documented
from serving.requests import make_id
from serving.service import Service

logger = logging.getLogger(__name__)


def router(service: Service[Instance], settings: Settings) -> APIRouter:
    """Return the endpoints of a service."""
    api = APIRouter(prefix="/v1", redirect_slashes=False)

    @api.post("/predict", response_model_exclude_none=True)
    async def predict(request: PredictRequest) -> PredictResponse:
        """Predict for one or more instances."""
        model = service.model
        predictions: list[Prediction] = []
        for answer in await service.batcher.submit(request.instances):
            service.metrics.record_prediction(answer)
            probabilities = None
            if request.probabilities and answer.probabilities is not None:
                row = answer.probabilities.tolist()
                probabilities = dict(zip(model.labels, row, strict=True))
            predictions.append(
                Prediction(
                    id=make_id(),
                    label=None if answer.abstained else answer.label,
                    score=answer.score,
                    abstained=answer.abstained or None,
                    probabilities=probabilities,
                    value=answer.value,
                )
            )
            if len(predictions) % 100 == 0:
                await asyncio.sleep(0)  # let other requests have their turn
        if settings.log_texts:
            instances = [
                each.model_dump(mode="json", exclude_computed_fields=True)
                for each in request.instances
            ]
            answers = [asdict(each) for each in predictions]
            logger.info(
                "Predicted", extra={"instances": instances, "predictions": answers}
            )
        return PredictResponse(predictions=predictions, model_version=model.version)

    @api.get("/model", responses=documented(503))
    async def model() -> ModelInfo:
        """Return the version, metrics and origin of the served model."""
        return service.model.info

    return api
