"""The fast path does what it is for, and refuses at the start what it would pass by."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Query, Request
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.middleware.gzip import GZipMiddleware

from app import main, problems
from app.contract import Health, Instance, PredictRequest
from app.routing import ContractRoute, contract_routes
from app.settings import Settings
from serving.service import Service
from tests.conftest import Serve, wait_until

BODY = {"instances": [{"text": "mute the tv"}]}


def allowed() -> None:
    """A dependency that a route must not lose."""


@dataclass
class Noted:
    """An answer with a field that may be nothing."""

    text: str
    note: str | None = None


async def plain(request: PredictRequest) -> Health:
    return Health(status=request.instances[0].text)


async def guarded(
    request: PredictRequest, _: Annotated[None, Depends(allowed)]
) -> Health:
    return await plain(request)


async def two(request: PredictRequest, more: Annotated[int, Body()]) -> Health:
    return await plain(request)


async def embedded(request: Annotated[PredictRequest, Body(embed=True)]) -> Health:
    return await plain(request)


async def query(request: PredictRequest, top: Annotated[int, Query()] = 1) -> Health:
    return await plain(request)


async def listed(*, instances: list[Instance]) -> Health:
    return Health(status=instances[0].text)


async def noted(request: PredictRequest) -> Noted:
    return Noted(request.instances[0].text)


async def raw(request: Request) -> Health:
    return Health(status=request.method)


async def both(body: PredictRequest, request: Request) -> Health:
    return Health(status=request.method)


async def untyped(request: PredictRequest):  # type: ignore[no-untyped-def]
    return await plain(request)


def blocking(request: PredictRequest) -> Health:
    return Health(status=request.instances[0].text)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        (guarded, "it has a dependency"),
        (two, "it has 2 bodies"),
        (embedded, "embeds one"),
        (query, "it has the parameter top"),
        (raw, "it has the parameter request"),
        (both, "it has the parameter request"),
        (untyped, "its answer has no type"),
        (blocking, "it is no `async def`"),
    ],
)
def test_an_endpoint_that_asks_for_more_than_a_body_is_refused(
    endpoint: object, says: str
) -> None:
    with pytest.raises(TypeError, match=f"/x cannot be a ContractRoute.*{says}"):
        ContractRoute("/x", endpoint, methods=["POST"])  # type: ignore[arg-type]


def test_dependencies_and_another_status_are_refused() -> None:
    with pytest.raises(TypeError):
        ContractRoute("/x", plain, methods=["POST"], dependencies=[Depends(allowed)])
    with pytest.raises(TypeError):
        ContractRoute("/x", plain, methods=["POST"], status_code=201)
    with pytest.raises(TypeError, match="its method has no body"):
        ContractRoute("/x", plain)


def test_a_router_with_dependencies_is_refused() -> None:
    router, app = APIRouter(), FastAPI()
    router.add_api_route(
        "/x", plain, methods=["POST"], route_class_override=ContractRoute
    )
    app.include_router(router, dependencies=[Depends(allowed)])

    with pytest.raises(TypeError, match="/x: its router has dependencies"):
        contract_routes(iter_route_contexts(app.routes))


def test_a_route_is_found_by_the_path_that_it_is_included_at() -> None:
    router, app = APIRouter(), FastAPI()
    router.add_api_route(
        "/x", plain, methods=["POST"], route_class_override=ContractRoute
    )
    app.include_router(router, prefix="/v2")

    assert set(contract_routes(iter_route_contexts(app.routes))) == {("POST", "/v2/x")}


def test_middleware_that_is_added_sees_predictions(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = problems.install

    def install_more(app: FastAPI) -> None:
        install(app)
        app.add_middleware(GZipMiddleware, minimum_size=1)

    monkeypatch.setattr("app.problems.install", install_more)
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    other = Service(Settings(model_dir=service.settings.model_dir))
    with TestClient(main.create_app(other)) as zipped:
        wait_until(lambda: zipped.get("/readyz").status_code == 200)
        answer = zipped.post("/v1/predict", json=BODY)

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["predictions"]


@pytest.fixture
def extended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A client of the service with endpoints of one's own."""
    install = problems.install

    def install_more(app: FastAPI) -> None:
        install(app)
        router = APIRouter()
        for path, endpoint in (("/listed", listed), ("/noted", noted)):
            router.add_api_route(
                path, endpoint, methods=["POST"], route_class_override=ContractRoute
            )
        router.add_api_route("/query", query, methods=["POST"])
        app.include_router(router)

    monkeypatch.setattr("app.problems.install", install_more)
    return serve()


def test_a_body_may_be_of_any_type_and_an_answer_keeps_its_nothing(
    extended: TestClient,
) -> None:
    assert extended.post("/listed", json=[{"text": "A"}]).json() == {"status": "a"}
    assert extended.post("/noted", json=BODY).json()["note"] is None


def test_an_endpoint_documents_the_problems_of_its_route(extended: TestClient) -> None:
    documented = extended.get("/openapi.json").json()["paths"]["/listed"]["post"]
    assert set(documented["responses"]) >= {"400", "408", "413", "415", "422", "503"}


def test_an_endpoint_beside_the_fast_path_has_problems_and_a_limit_too(
    extended: TestClient,
) -> None:
    wrong = extended.post("/query?top=secret", json=BODY)
    large = extended.post("/query", content=b" " * 1_048_577)

    assert wrong.status_code == 422
    assert wrong.headers["content-type"] == "application/problem+json"
    assert "secret" not in wrong.text
    assert large.status_code == 413
    assert wrong.json()["errors"][0]["pointer"] == "/query/top"


def test_what_fastapi_raises_is_a_problem_here_too(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def teapot(**_: object) -> None:
        raise HTTPException(418, "short and stout")

    monkeypatch.setattr("app.api.Prediction", teapot)
    answer = client.post("/v1/predict", json=BODY)

    assert answer.status_code == 418
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "short and stout"
