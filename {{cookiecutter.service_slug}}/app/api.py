"""The endpoints. Each is a few lines; what they stand on is in `app.service`."""

import logging
from random import getrandbits

from fastapi import APIRouter, Request, Response

from app.contract import (
    Health,
    ModelInfo,
    Prediction,
    PredictRequest,
    PredictResponse,
)
from app.problems import documented, unavailable
from app.routing import ContractRoute
from app.service import Service

logger = logging.getLogger(__name__)


def router(service: Service) -> APIRouter:
    """The endpoints, bound to the service that they speak for."""
    api = APIRouter(redirect_slashes=False)

    async def predict(request: PredictRequest) -> PredictResponse:
        """Classify one instance or many, in one call."""
        model = service.model
        predictions = []
        for label, score, row in await service.batcher.submit(request.instances):
            service.metrics.predicted(label, score)
            probabilities = None
            if request.probabilities:
                probabilities = dict(zip(model.labels, row.tolist(), strict=True))
            predictions.append(
                Prediction(
                    id=f"{getrandbits(128):032x}",
                    label=label,
                    score=score,
                    probabilities=probabilities,
                )
            )
        if service.settings.log_texts:
            texts = [instance.model_dump() for instance in request.instances]
            labels = [prediction.label for prediction in predictions]
            logger.info("Predicted", extra={"instances": texts, "labels": labels})
        return PredictResponse(predictions=predictions, model_version=model.version)

    async def model() -> ModelInfo:
        """Tell which model is served, how good it is and where it comes from."""
        return service.model.info

    async def livez() -> Health:
        """Liveness: the process runs. It does no I/O and needs no model."""
        return Health(status="alive")

    async def readyz() -> Health:
        """Readiness: the model is loaded and proven, the service does not drain."""
        if not service.lifecycle.ready:
            raise unavailable(service.lifecycle.reason)
        return Health(status="ready")

    async def metrics(request: Request) -> Response:
        """What Prometheus scrapes."""
        content, media_type = service.metrics.scrape(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    api.add_api_route(
        "/v1/predict",
        predict,
        methods=["POST"],
        route_class_override=ContractRoute,
        response_model_exclude_none=True,
    )
    api.add_api_route("/v1/model", model, responses=documented(503))
    api.add_api_route("/livez", livez)
    api.add_api_route("/readyz", readyz, responses=documented(503))
    api.add_api_route("/metrics", metrics, include_in_schema=False)
    return api
