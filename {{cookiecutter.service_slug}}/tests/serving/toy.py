"""A service of another task than the default data's: it judges claims.

The tests of the engine run on it. It has an endpoint for each thing that they ask:
`judge` predicts, `echo` says what was understood, `crash` is a defect.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, Field

from serving import inference
from serving.build import Application, build_app
from serving.contract import Contract, ModelInfo
from serving.model import Model
from serving.problems import documented
from serving.service import Service
from serving.settings import ServingSettings
from serving.text import normalise

MAX_NOTE = 10_000
MAX_CLAIMS = 1_000


class Claim(Contract):
    """A text and a number."""

    note: Annotated[
        str, Field(min_length=1, max_length=MAX_NOTE), AfterValidator(normalise)
    ]
    amount: float = 0.0


class Claims(Contract):
    """One claim or many."""

    claims: Annotated[list[Claim], Field(min_length=1, max_length=MAX_CLAIMS)]
    urgent: bool = False


@dataclass(slots=True)
class Verdict:
    """What the model thinks of a claim."""

    label: str | None
    score: float | None


@dataclass(slots=True)
class Verdicts:
    """One verdict a claim."""

    verdicts: list[Verdict]
    model_version: str


def create_app(settings: ServingSettings) -> Application:
    """Build the application."""
    service = Service(settings, lambda: Model.load(settings.model_dir, Claim))
    router = APIRouter(prefix="/v1", redirect_slashes=False)

    @router.post("/judge")
    async def judge(request: Claims) -> Verdicts:
        verdicts = []
        for answer in await service.batcher.submit(request.claims):
            service.metrics.record_prediction(answer)
            verdicts.append(Verdict(answer.label, answer.score))
        return Verdicts(verdicts, service.model.version)

    @router.post("/echo")
    async def echo(request: Claims) -> Claims:
        return request

    @router.post("/crash")
    async def crash(request: Claims) -> Verdicts:
        raise RuntimeError("this endpoint is broken")

    @router.get("/model", responses=documented(503))
    async def model() -> ModelInfo:
        return service.model.info

    return build_app(service, [router, inference.router(service, Claim, MAX_CLAIMS)])
