"""The Open Inference Protocol (V2, REST), which standard clients speak.

Each field of the contract is an input tensor of its name; `label`, `score` and
`probabilities`, or `value`, are the outputs. The protocol:
https://github.com/kserve/open-inference-protocol

Its Markdown and its OpenAPI document differ in a few places; both forms are served.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Never, cast

from fastapi import APIRouter, Body
from pydantic import AfterValidator
from typing_extensions import NotRequired, TypedDict

from serving.build import Project, read_project
from serving.contract import Contract
from serving.fields import InstanceT
from serving.model import Answer, Row
from serving.problems import (
    BINARY_TENSORS,
    MAX_LISTED,
    NOT_READY,
    UNKNOWN_MODEL,
    InvalidField,
    ProblemError,
    contract_violation,
    documented,
    quote,
    shorten,
    unavailable,
)
from serving.requests import V2
from serving.routing import ContractRoute, check_media_type
from serving.service import Service
from serving.tensors import InputTensor, Parameters, Rows, TensorReader, strictly

BINARY_HEADER = b"inference-header-content-length"
PLATFORM = "onnx_onnxv1"
VERSION = "/versions/{version}"
# Parameters of Triton's extensions, which would change the form of an output.
EXTENSIONS = ("classification", "shared_memory_region")
NO_BINARY = (
    "in binary form, which this service does not have; ask for each output with "
    "binary_data=False."
)
TURN = 100  # after this many answers, the event loop serves other requests
UNLISTED: dict[str, Any] = {"include_in_schema": False, "response_model": None}

logger = logging.getLogger(__name__)


@strictly
class RequestedOutput(TypedDict):
    """An output that is asked for."""

    name: str
    parameters: NotRequired[Parameters | None]


@strictly
class InferRequest(TypedDict):
    """The rows to predict for, a tensor for each field. No `outputs` means all."""

    inputs: list[InputTensor]
    outputs: NotRequired[list[RequestedOutput] | None]
    id: NotRequired[str | None]
    parameters: NotRequired[Parameters | None]


@dataclass(slots=True)
class OutputTensor:
    """An output for all rows, flat in row-major order."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


@dataclass(slots=True)
class InferResponse:
    """The outputs in the order in which they were asked for; `id` is the request's."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class TensorInfo(Contract):
    """An input or output of the model; -1 is the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ServerMetadata(Contract):
    """The server and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: list[str] = []


class InferenceModel(Contract):
    """The model, its inputs and its outputs."""

    name: str
    versions: list[str]
    platform: str = PLATFORM
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class ServerLive(Contract):
    """The server runs."""

    live: bool


class ServerReady(Contract):
    """The server takes requests. The protocol's Markdown calls it `live` here, too."""

    live: bool
    ready: bool


class ModelReady(Contract):
    """The model takes requests."""

    name: str
    ready: bool


class InferenceRoute(ContractRoute):
    """A route whose body is JSON, declared as such or not at all, and never binary."""

    @staticmethod
    def check_headers(headers: dict[bytes, bytes]) -> None:
        """Raise ProblemError (415) for another body than JSON."""
        if (length := headers.get(BINARY_HEADER)) is not None:
            raise ProblemError(
                BINARY_TENSORS,
                f"The header Inference-Header-Content-Length is {quote(length)}: the "
                "tensors of the request are binary. This service has no binary "
                "extension; send the values in `data` (binary_data=False).",
            )
        # tritonclient sends no Content-Type.
        headers.setdefault(b"content-type", b"application/json")
        check_media_type(headers)


def router(
    service: Service[InstanceT],
    contract: type[InstanceT],
    max_rows: int,
    log_texts: bool = False,
) -> APIRouter:
    """Return the routes of the protocol; none if OPEN_INFERENCE is off.

    A request has at most `max_rows` rows. The name of the model is that of the project.
    """
    api = APIRouter(
        prefix=V2,
        redirect_slashes=False,
        route_class=InferenceRoute,
        strict_content_type=False,
    )
    if not service.settings.open_inference:
        return api
    project = read_project()
    add_server(api, service, project)
    reader = TensorReader(contract, max_rows)
    add_model(api, service, project.name, reader)
    add_inference(api, service, project.name, reader, log_texts)
    refuse_other_models(api, project.name)
    return api


def add_server(api: APIRouter, service: Service[InstanceT], project: Project) -> None:
    """Add the routes about the server."""

    @api.get("/", include_in_schema=False)
    @api.get("")
    async def server_metadata() -> ServerMetadata:
        """Return name and version of the server."""
        return ServerMetadata(name=project.name, version=project.version)

    @api.get("/health/live")
    async def server_live() -> ServerLive:
        """Liveness, as `/livez`."""
        return ServerLive(live=True)

    @api.get("/health/ready", responses=documented(503))
    async def server_ready() -> ServerReady:
        """Readiness, as `/readyz`."""
        check_ready(service)
        return ServerReady(live=True, ready=True)


def add_model(
    api: APIRouter,
    service: Service[InstanceT],
    name: str,
    reader: TensorReader[InstanceT],
) -> None:
    """Add the routes about the model, with its version and without."""
    of_model, of_version = f"/models/{name}", f"/models/{name}" + VERSION

    @api.get(of_model, responses=documented(503))
    async def model_metadata() -> InferenceModel:
        """Return the inputs and outputs of the model."""
        model = service.model
        return InferenceModel(
            name=name,
            versions=[model.version],
            inputs=list_tensors(reader.describe()),
            outputs=list_tensors(describe_outputs(len(model.labels))),
        )

    @api.get(of_version, responses=documented(404, 503))
    async def version_metadata(version: str) -> InferenceModel:
        """Return the inputs and outputs of a version of the model."""
        check_version(service, name, version)
        return await model_metadata()

    @api.get(f"{of_model}/ready", responses=documented(503))
    async def model_ready() -> ModelReady:
        """Return whether the model takes requests."""
        check_ready(service)
        return ModelReady(name=name, ready=True)

    @api.get(f"{of_version}/ready", responses=documented(404, 503))
    async def version_ready(version: str) -> ModelReady:
        """Return whether a version of the model takes requests."""
        check_version(service, name, version)
        return await model_ready()


def add_inference(
    api: APIRouter,
    service: Service[InstanceT],
    name: str,
    reader: TensorReader[InstanceT],
    log_texts: bool,
) -> None:
    """Add the routes that predict, with the version of the model and without."""

    def read_rows(request: InferRequest) -> tuple[InferRequest, list[InstanceT]]:
        return request, reader.read(request["inputs"])

    @api.post(f"/models/{name}/infer", response_model_exclude_none=True)
    async def infer(
        request: Annotated[InferRequest, Body(), AfterValidator(read_rows)],
    ) -> InferResponse:
        """Predict for the rows of the input tensors."""
        asked, instances = cast("tuple[InferRequest, list[InstanceT]]", request)
        model = service.model
        wanted = choose_outputs(asked, describe_outputs(len(model.labels)))
        answers = await service.batcher.submit(instances)
        for number, answer in enumerate(answers, 1):
            service.metrics.record_prediction(answer)
            if number % TURN == 0:
                await asyncio.sleep(0)
        outputs = make_outputs(answers, wanted)
        if log_texts:
            sent = [
                each.model_dump(mode="json", exclude_computed_fields=True)
                for each in instances
            ]
            columns = {tensor.name: tensor.data for tensor in outputs}
            logger.info("Predicted", extra={"instances": sent, "outputs": columns})
        return InferResponse(name, model.version, outputs, asked.get("id"))

    @api.post(
        f"/models/{name}{VERSION}/infer",
        response_model_exclude_none=True,
        responses=documented(404),
    )
    async def infer_with_version(
        version: str,
        request: Annotated[InferRequest, Body(), AfterValidator(read_rows)],
    ) -> InferResponse:
        """Predict with a version of the model."""
        check_version(service, name, version)
        return await infer(request)


def check_ready(service: Service[InstanceT]) -> None:
    """Raise ProblemError (503), with the reason, unless the service is ready."""
    if not service.lifecycle.ready:
        raise unavailable(NOT_READY, service.lifecycle.reason)


def check_version(service: Service[InstanceT], name: str, version: str) -> None:
    """Raise ProblemError (404) for another version than that of the served model."""
    if version != (served := service.model.version):
        raise ProblemError(
            UNKNOWN_MODEL,
            f"There is no version {shorten(version)!r} of the model {name!r}: the one "
            f"that is served is {served!r}. Without a version in the path, that one "
            "answers.",
        )


def refuse_other_models(api: APIRouter, name: str) -> None:
    """Answer 404, with the name of the served model, for every other model."""

    async def refuse(model: str) -> Never:
        raise ProblemError(
            UNKNOWN_MODEL,
            f"There is no model {shorten(model)!r}: the model of this service is "
            f"{name!r}.",
        )

    of_model = "/models/{model}"
    for path in ("", "/ready", VERSION, f"{VERSION}/ready"):
        api.add_api_route(of_model + path, refuse, **UNLISTED)
    for path in ("/infer", f"{VERSION}/infer"):
        api.add_api_route(of_model + path, refuse, methods=["POST"], **UNLISTED)


# The values of each output. A tensor of texts has no null: a model that abstains gives
# an empty label.
COLUMNS: dict[str, Callable[[Sequence[Answer]], list[Any]]] = {
    "label": lambda answers: [
        "" if answer.abstained else answer.label for answer in answers
    ],
    "score": lambda answers: [answer.score for answer in answers],
    "probabilities": lambda answers: [
        share
        for answer in answers
        for share in cast(Row, answer.probabilities).tolist()
    ],
    "value": lambda answers: [answer.value for answer in answers],
}


def make_outputs(answers: Sequence[Answer], wanted: Rows) -> list[OutputTensor]:
    """Return the wanted outputs."""
    rows = len(answers)
    return [
        OutputTensor(name, datatype, [rows, *shape], COLUMNS[name](answers))
        for name, (datatype, shape) in wanted.items()
    ]


def list_tensors(rows: Rows) -> list[TensorInfo]:
    """Return the tensors of any number of such rows."""
    return [
        TensorInfo(name=name, datatype=datatype, shape=[-1, *shape])
        for name, (datatype, shape) in rows.items()
    ]


@cache
def describe_outputs(labels: int) -> Rows:
    """Return the outputs of a model with so many labels; a regression has none."""
    if not labels:
        return {"value": ("FP32", [])}
    return {
        "label": ("BYTES", []),
        "score": ("FP32", []),
        "probabilities": ("FP32", [labels]),
    }


def choose_outputs(request: InferRequest, known: Rows) -> Rows:
    """Return the wanted outputs: those that are asked for, in their order, or all.

    Raises ProblemError (422) for one that does not exist, or in the binary form.
    """
    binary = bool((request.get("parameters") or {}).get("binary_data_output"))
    outputs = request.get("outputs")
    if not outputs:
        if binary:
            why = f"All outputs are asked for {NO_BINARY}"
            raise contract_violation([_mistake("/parameters/binary_data_output", why)])
        return known

    chosen: Rows = {}
    mistakes = []
    # The number is bounded, as this runs in the event loop: of more outputs than
    # MAX_LISTED, one is unknown or repeated.
    for place, output in enumerate(outputs[:MAX_LISTED]):
        name, parameters = output["name"], output.get("parameters")
        problem: tuple[str, str] | None
        if name not in known:
            problem = "name", f"does not exist; the outputs are {', '.join(known)}."
        elif name in chosen:
            problem = "name", "is asked for twice; ask for it once."
        else:
            problem = _find_extension(parameters or {}, binary)
            chosen[name] = known[name]
        if problem:
            part, reason = problem
            why = f"The output {shorten(name)!r} {reason}"
            mistakes.append(_mistake(f"/outputs/{place}/{part}", why))
    if mistakes:
        complete = len(outputs) <= MAX_LISTED
        raise contract_violation(mistakes, complete=complete)
    return chosen


def _find_extension(parameters: Parameters, binary: bool) -> tuple[str, str] | None:
    """Return the parameter that asks for what the service does not have, and why."""
    if parameters.get("binary_data", binary):
        return "parameters/binary_data", f"is asked for {NO_BINARY}"
    for name in EXTENSIONS:
        if name in parameters:
            return (
                f"parameters/{name}",
                f"has the parameter {name!r}, which is of an extension that this "
                "service does not have; leave it out.",
            )
    return None


def _mistake(pointer: str, detail: str) -> InvalidField:
    return InvalidField(pointer=pointer, detail=detail)
