"""Every route has the same guarantees, whichever way its requests take.

A route is ordinary FastAPI. The fast path is taken where a route allows it; the answers
are the same where it does not.
"""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from pydantic import AfterValidator, AliasChoices
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.build import Application, build_app
from serving.contract import Contract
from serving.model import Model, ModelError
from serving.problems import ProblemError, ProblemType
from serving.routing import (
    JSON,
    ContractRoute,
    Handler,
    plan_routes,
    prepare_routes,
)
from serving.service import Service
from serving.settings import ServingSettings


class Item(Contract):
    """A contract of these tests, with kinds that JSON has no type for."""

    name: str
    count: int = 1
    at: datetime | None = None


class Echo(Contract):
    """Says what was understood."""

    name: str
    count: int = 1
    at: datetime | None = None


class Colour(StrEnum):
    RED = "red"


class Painted(Contract):
    colour: Colour


@dataclass
class Noted:
    text: str
    note: str | None = None


def allow() -> str:
    """A dependency that a route must not lose."""
    return "allowed"


async def plain(item: Item) -> Echo:
    return Echo(**item.model_dump())


async def guarded(item: Item, _: Annotated[str, Depends(allow)]) -> Echo:
    return await plain(item)


async def with_query(item: Item, top: Annotated[int, Query()] = 1) -> Echo:
    return await plain(item)


async def with_header(item: Item, x_top: Annotated[int, Header()] = 1) -> Echo:
    return await plain(item)


async def with_request(item: Item, request: Request) -> Echo:
    assert isinstance(request.app, Application)
    return await plain(item)


async def with_background(item: Item, tasks: BackgroundTasks) -> Echo:
    tasks.add_task(allow)
    return await plain(item)


def blocking(item: Item) -> Echo:
    return Echo(**item.model_dump())


async def untyped(item: Item):  # type: ignore[no-untyped-def]
    return await plain(item)


async def streaming(item: Item) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield item.model_dump_json().encode()

    return StreamingResponse(parts(), media_type="application/json")


WAYS: dict[str, Callable[..., Any]] = {
    "fast": plain,
    "dependency": guarded,
    "query": with_query,
    "header": with_header,
    "request": with_request,
    "background": with_background,
    "blocking": blocking,
    "untyped": untyped,
    "streaming": streaming,
}


@pytest.fixture(scope="module")
def settings() -> ServingSettings:
    return ServingSettings(
        max_body_bytes=2_000, max_bytes_in_work=4_000, log_level="critical"
    )


def no_model() -> Model[Any]:
    raise ModelError("These tests need none.")


def build(
    settings: ServingSettings,
    *routers: APIRouter,
    middleware: list[Middleware] | None = None,
) -> Application:
    """Build an application of routes that need no model."""
    return build_app(Service(settings, no_model), routers, middleware or [])


def one_route(endpoint: Callable[..., Any], **options: Any) -> APIRouter:
    """Return a router with this endpoint at `POST /x`."""
    router = APIRouter()
    router.add_api_route("/x", endpoint, methods=["POST"], **options)
    return router


def asking(
    settings: ServingSettings, endpoint: Callable[..., Any], **options: Any
) -> TestClient:
    """Return a client of an application with this endpoint at `POST /x`."""
    return TestClient(build(settings, one_route(endpoint, **options)))


@pytest.fixture(scope="module")
def client(settings: ServingSettings) -> Iterator[TestClient]:
    """A client of an application with an endpoint of each kind, in each place."""
    router = APIRouter()
    for name, endpoint in WAYS.items():
        router.add_api_route(f"/{name}", endpoint, methods=["POST"])
    outer = APIRouter()
    outer.include_router(router, prefix="/included")
    app = build(settings, outer)
    app.include_router(router, prefix="/guarded", dependencies=[Depends(allow)])
    app.post("/direct")(plain)
    mounted = FastAPI()
    mounted.post("/plain")(plain)
    app.mount("/mounted", mounted)
    app.mount("/starlette", Starlette(routes=[Route("/teapot", say_teapot)]))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


async def say_teapot(request: Request) -> Response:
    raise HTTPException(418, "I am a teapot.")


@pytest.mark.parametrize(("path", "status"), [("/teapot", 418), ("/nothing", 404)])
def test_errors_of_a_mounted_application_are_problem_documents(
    client: TestClient, path: str, status: int
) -> None:
    answer = client.get(f"/starlette{path}")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/docs/swagger-ui.css", "/files/test_routing.py"])
@pytest.mark.parametrize(
    ("headers", "status", "kept"),
    [
        ({"Range": "bytes=x"}, 400, "x-request-id"),
        ({"Range": "bytes=99999999-"}, 416, "content-range"),
        ({"Host": "elsewhere"}, 400, "x-request-id"),
    ],
)
def test_an_error_that_starlette_sends_as_text_is_a_problem_document(
    settings: ServingSettings,
    path: str,
    headers: dict[str, str],
    status: int,
    kept: str,
) -> None:
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["testserver"])
    app = build(settings, middleware=[hosts])
    app.mount("/files", StaticFiles(directory=Path(__file__).parent))
    with TestClient(app) as client:
        answer = client.get(path, headers=headers)
        head = client.head(path, headers=headers)

    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert answer.headers[kept]
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("text", "media_type"),
    [
        ("gone", "application/problem+json"),
        ("x" * 1_001, "text/plain; charset=utf-8"),
    ],
)
def test_an_error_in_a_short_text_is_a_problem_document(
    settings: ServingSettings, text: str, media_type: str
) -> None:
    async def fail(item: Item) -> Response:
        cookies = [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
        answer = PlainTextResponse(text, 410)
        answer.raw_headers += cookies
        return answer

    with asking(settings, fail) as client:
        answer = client.post("/x", json={"name": "a"})

    assert answer.status_code == 410
    assert answer.headers["content-type"] == media_type
    assert text in answer.text
    assert answer.cookies == {"a": "b", "c": "d"}


@pytest.mark.parametrize("error", [RuntimeError(), HTTPException(409)])
def test_a_crash_in_the_middle_of_a_text_error_is_a_problem_document(
    settings: ServingSettings, error: Exception
) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"4")]
        start = {"type": "http.response.start", "status": 410, "headers": headers}
        await send(start)
        raise error

    app = build(settings)
    app.mount("/x", fail)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/x/")

    assert answer.status_code == answer.json()["status"] == 500
    assert len(answer.headers.get_list("x-request-id")) == 1


PATHS = [
    *(f"/included/{name}" for name in WAYS),
    *("/guarded/fast", "/direct", "/mounted/plain"),
]

BAD: dict[str, tuple[bytes, str, int]] = {
    "nothing": (b"", "application/json", 400),
    "no JSON": (b"{", "application/json", 400),
    "half of a surrogate pair": (rb'{"name": "\ud83d"}', "application/json", 400),
    "another encoding": ('{"name": "a"}'.encode("utf-16"), "application/json", 400),
    "a field is missing": (b"{}", "application/json", 422),
    "a field too many": (b'{"name": "a", "x": 1}', "application/json", 422),
    "another type": (b'{"name": 1, "count": "2"}', "application/json", 422),
    "not a number": (b'{"name": "a", "count": NaN}', "application/json", 422),
    "a list": (b"[]", "application/json", 422),
    "null": (b"null", "application/json", 422),
    "not declared as JSON": (b'{"name": "a"}', "text/plain", 415),
    "a type that builds upon JSON": (b'{"name": "a"}', "application/ld+json", 415),
    "too large": (b" " * 2_001, "application/json", 413),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_has_the_same_answer_on_every_route(
    client: TestClient, path: str, name: str
) -> None:
    body, media_type, status = BAD[name]
    headers = {"Content-Type": media_type}

    expected = client.post("/included/fast", content=body, headers=headers)
    answer = client.post(path, content=body, headers=headers)

    assert answer.status_code == expected.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == expected.json()
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
def test_a_good_request_has_the_same_answer_on_every_route(
    client: TestClient, path: str
) -> None:
    answer = client.post(path, json={"name": "a", "at": "2026-01-02T03:04:05Z"})

    assert answer.status_code == 200
    assert answer.json() == {"name": "a", "count": 1, "at": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize("path", PATHS)
def test_a_body_of_unknown_size_is_bounded_on_every_route(
    client: TestClient, path: str
) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield b" " * 1_000

    headers = {"Content-Type": "application/json"}
    answer = client.post(path, content=parts(), headers=headers)

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", PATHS)
def test_bytes_in_work_are_bounded_on_every_route(
    client: TestClient, path: str
) -> None:
    app: Any = client.app
    admission = app.state.service.admission
    admission.bytes = 3_999
    try:
        answer = client.post(path, json={"name": "a"})
    finally:
        admission.bytes = 0

    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:problem-type:too-many-bytes-in-work"
    assert admission.bytes == admission.requests == 0


def refuse() -> None:
    """A dependency that lets nobody in."""
    raise HTTPException(403, "Members only.")


@pytest.mark.parametrize("place", ["route", "router", "included router"])
def test_a_dependency_is_asked_wherever_it_is_declared_and_before_the_contract(
    settings: ServingSettings, place: str
) -> None:
    def given(here: str) -> dict[str, Any]:
        return {"dependencies": [Depends(refuse)]} if here == place else {}

    inner = APIRouter(**given("router"))
    inner.add_api_route("/x", plain, methods=["POST"], **given("route"))
    inner.add_api_route("/several", two, methods=["POST"], **given("route"))
    app = build(settings)
    app.include_router(inner, **given("included router"))

    with TestClient(app) as client:
        assert client.post("/x", json={"name": "a"}).status_code == 403
        for path in ("/x", "/several"):
            assert client.post(path, json={"name": 1}).status_code == 403


def test_a_body_limit_of_a_route_gives_the_same_problem(
    settings: ServingSettings,
) -> None:
    with asking(settings, plain, max_body_size=20) as client:
        answer = client.post("/x", json={"name": "a" * 20})

    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:problem-type:body-too-large"


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
def test_a_body_that_a_route_declares_as_another_media_type_is_read(
    settings: ServingSettings, kind: str
) -> None:
    async def count(body: Annotated[bytes, Body(media_type=kind)]) -> int:
        return len(body)

    headers = {"Content-Type": kind}
    with asking(settings, count) as client:
        answer = client.post("/x", content=b"\xff\x00", headers=headers)
        large = client.post("/x", content=b"a" * 2_001, headers=headers)
        documented = client.get("/openapi.json").json()["paths"]["/x"]["post"]

    assert (answer.status_code, answer.json()) == (200, 2)
    assert large.status_code == 413
    assert "415" not in documented["responses"]


def test_mistakes_of_parameters_say_which(client: TestClient) -> None:
    answer = client.post("/included/query?top=secret", json={"name": "a"})

    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "location": "query",
            "pointer": "/top",
            "detail": "Input should be a valid integer, unable to parse string as an "
            "integer",
        }
    ]


class Timed(ContractRoute):
    """A route class of a team's own, as FastAPI documents them."""

    def get_route_handler(self) -> Handler:
        """Return a handler that adds a header."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await handler(request)
            response.headers["x-time"] = "1"
            return response

        return handle


def test_a_route_class_of_your_own_keeps_its_handler_and_the_contract(
    settings: ServingSettings,
) -> None:
    router = APIRouter(route_class=Timed)
    router.add_api_route("/x", plain, methods=["POST"])
    with TestClient(build(settings, router)) as client:
        good = client.post("/x", json={"name": "a", "at": "2026-01-02T03:04:05Z"})
        bad = client.post("/x", content="{", headers={"Content-Type": JSON})

    assert (good.status_code, good.headers["x-time"]) == (200, "1")
    assert bad.json()["type"] == "urn:problem-type:invalid-json"


def obstacles(
    endpoint: Callable[..., Any], path: str = "/x", **options: Any
) -> dict[tuple[str, str], str]:
    """Return why a route does not take the fast path; nothing if it does."""
    app = FastAPI(openapi_url=None)
    options = {"methods": ["POST"]} | options
    app.router.add_api_route(path, endpoint, **options)
    prepare_routes(app.routes)
    return plan_routes(iter_route_contexts(app.routes)).through_fastapi


async def two(item: Item, more: Annotated[int, Body()]) -> Echo:
    return await plain(item)


async def embedded(item: Annotated[Item, Body(embed=True)]) -> Echo:
    return await plain(item)


async def optional(item: Item | None = None) -> Echo:
    return Echo(name="none")


async def raw(request: Request) -> Echo:
    return Echo(name=request.method)


async def of_path(item: Item, number: int) -> Echo:
    return await plain(item)


@pytest.mark.parametrize(
    ("endpoint", "options", "reason"),
    [
        (plain, {"route_class_override": Timed}, "it has a custom route class"),
        (guarded, {}, "it has a dependency"),
        (plain, {"dependencies": [Depends(allow)]}, "it has a dependency"),
        (two, {}, "it takes several bodies, or embeds one"),
        (embedded, {}, "it takes several bodies, or embeds one"),
        (optional, {}, "its body is optional"),
        (with_query, {}, "it has the parameter top"),
        (raw, {}, "it takes no JSON body"),
        (with_request, {}, "it has the parameter request"),
        (with_background, {}, "it has the parameter tasks"),
        (untyped, {}, "its answer has no type"),
        (blocking, {}, "it is not an `async def`"),
        (streaming, {}, "its answer has no type"),
        (plain, {"response_model": Noted}, "its answer is declared by response_model"),
        (plain, {"response_class": Response}, "it has a response class"),
        (of_path, {"path": "/x/{number}"}, "it has the parameter number"),
    ],
)
def test_what_the_fast_path_does_not_do_goes_through_fastapi(
    endpoint: Callable[..., Any], options: dict[str, Any], reason: str
) -> None:
    assert list(obstacles(endpoint, **options).values()) == [reason]


def test_one_body_and_a_typed_answer_take_the_fast_path() -> None:
    assert obstacles(plain) == {}
    assert obstacles(plain, status_code=201) == {}


def test_an_earlier_route_keeps_its_requests(settings: ServingSettings) -> None:
    async def first(name: str) -> Echo:
        return Echo(name=f"first {name}")

    router = APIRouter()
    router.add_api_route("/{name}", first, methods=["POST"])
    router.add_api_route("/x", plain, methods=["POST"])

    with TestClient(build(settings, router)) as client:
        assert client.post("/x", json={"name": "a"}).json()["name"] == "first x"


def test_the_start_log_says_which_routes_take_the_fast_path(
    settings: ServingSettings, caplog: pytest.LogCaptureFixture
) -> None:
    router = APIRouter()
    router.add_api_route("/a", plain, methods=["POST"])
    router.add_api_route("/b", guarded, methods=["POST"])
    router.add_api_websocket_route("/socket", lambda websocket: None)

    with caplog.at_level("INFO", "serving"), TestClient(build(settings, router)):
        pass

    assert "Fast path: POST /a. Through FastAPI: " in caplog.text
    assert "POST /b (it has a dependency)" in caplog.text
    assert "no websockets: /socket can be reached in tests only" in caplog.text


def test_a_status_of_its_own_and_a_field_that_is_none_are_kept(
    settings: ServingSettings,
) -> None:
    async def noted(item: Item) -> Noted:
        return Noted(item.name)

    with asking(settings, noted, status_code=201) as client:
        answer = client.post("/x", json={"name": "a"})

    assert answer.status_code == 201
    assert answer.json() == {"text": "a", "note": None}


def test_several_bodies_are_validated_together(settings: ServingSettings) -> None:
    async def both(item: Item, painted: Painted, more: Annotated[int, Body()]) -> Echo:
        return Echo(name=f"{item.name} {painted.colour.name} {more}", at=item.at)

    good: dict[str, Any] = {
        "item": {"name": "a", "at": "2026-01-02T03:04:05Z"},
        "painted": {"colour": "red"},
        "more": 1,
    }
    with asking(settings, both) as client:
        assert client.post("/x", json=good).json()["name"] == "a RED 1"
        bad = client.post("/x", json=good | {"painted": {"colour": "blue"}})

    assert bad.json()["errors"][0]["pointer"] == "/painted/colour"


@pytest.mark.parametrize("alias", ["one", AliasChoices("one", "two")])
@pytest.mark.parametrize("default", [..., 0])
def test_a_body_is_found_by_its_alias(
    settings: ServingSettings, alias: str | AliasChoices, default: Any
) -> None:
    body = Body(default, embed=True, validation_alias=alias)

    async def number(value: int = body) -> int:
        return value

    with asking(settings, number) as client:
        assert client.post("/x", json={"one": 1}).json() == 1
        assert client.post("/x", json={"one": "a"}).status_code == 422
        if alias != "one":
            assert client.post("/x", json={"two": 2}).json() == 2


def test_a_body_may_be_left_out_where_the_route_says_so(
    settings: ServingSettings,
) -> None:
    with asking(settings, optional) as client:
        assert client.post("/x").json()["name"] == "none"
        assert client.post("/x", json={}).status_code == 422


class AddHeader:
    """Middleware in pure ASGI: it adds a header to every answer."""

    def __init__(self, app: ASGIApp, value: str) -> None:
        self._app = app
        self._value = value

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"x-passed", self._value.encode())
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, send_more)


def test_middleware_sees_every_request_and_keeps_the_fast_path(
    settings: ServingSettings, caplog: pytest.LogCaptureFixture
) -> None:
    inner = [Middleware(AddHeader, value="inner")]
    app = build(settings, one_route(plain), middleware=inner)
    app.add_middleware(GZipMiddleware, minimum_size=1)

    with caplog.at_level("INFO", "serving"), TestClient(app) as client:
        good = client.post("/x", json={"name": "a"})
        bad = client.post("/x", json={})

    assert "Fast path: POST /x" in caplog.text
    for answer, status in ((good, 200), (bad, 422)):
        assert answer.status_code == status
        assert answer.headers["x-passed"] == "inner"
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["x-request-id"]


def test_middleware_of_starlettes_base_class_works(settings: ServingSettings) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response

    app = build(settings, one_route(plain))
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)

    with TestClient(app) as client:
        answer = client.post("/x", json={"name": "a"})

    assert (answer.status_code, answer.headers["x-passed"]) == (200, "yes")


QUOTA = ProblemType("quota-exceeded", 429, "The quota is used up")


class Reject:
    """Middleware that rejects every request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise ProblemError(QUOTA, "Come back tomorrow.")
        await self.app(scope, receive, send)


def test_middleware_may_raise_a_problem(settings: ServingSettings) -> None:
    app = build(settings, middleware=[Middleware(Reject)])

    with TestClient(app) as client:
        answer = client.get("/livez")

    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:problem-type:quota-exceeded"
    assert answer.headers["x-request-id"]


class Crash:
    """Middleware with a defect."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise RuntimeError("secret")
        await self.app(scope, receive, send)


def test_middleware_that_crashes_is_answered_with_a_problem(
    settings: ServingSettings,
) -> None:
    app = build(settings, middleware=[Middleware(Crash)])

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/livez")

    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:problem-type:internal-error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]


class Missing(Exception):
    """An error of a team's own."""


@pytest.mark.parametrize("endpoint", ["plain", "with a dependency"])
def test_what_a_handler_raises_is_answered_alike(
    settings: ServingSettings, endpoint: str
) -> None:
    errors: dict[str, BaseException] = {
        "teapot": HTTPException(418, "short and stout", {"X-Tea": "green"}),
        "missing": Missing(),
        "crash": RuntimeError("secret"),
        "cancelled": CancelledError(),
    }

    async def fail(item: Item) -> Echo:
        raise errors[item.name]

    async def fail_slowly(item: Item, _: Annotated[str, Depends(allow)]) -> Echo:
        raise errors[item.name]

    app = build(settings, one_route(fail if endpoint == "plain" else fail_slowly))

    @app.exception_handler(Missing)
    async def on_missing(request: Request, error: Missing) -> Response:
        return JSONResponse({"own": "form"}, 404)

    with TestClient(app, raise_server_exceptions=False) as client:
        teapot = client.post("/x", json={"name": "teapot"})
        missing = client.post("/x", json={"name": "missing"})
        crashes = [
            client.post("/x", json={"name": name}) for name in ("crash", "cancelled")
        ]

    assert (teapot.status_code, teapot.headers["x-tea"]) == (418, "green")
    assert teapot.json()["detail"] == "short and stout"
    assert (missing.status_code, missing.json()) == (404, {"own": "form"})
    for crash in crashes:
        assert crash.status_code == 500
        assert crash.headers["content-type"] == "application/problem+json"
        assert crash.json()["type"] == "urn:problem-type:internal-error"
        assert "secret" not in crash.text


def test_every_operation_documents_its_problems(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    for name in ("fast", "dependency", "query"):
        answers = paths[f"/included/{name}"]["post"]["responses"]
        assert set(answers) >= {"200", "400", "408", "413", "415", "422", "503"}
        assert list(answers["422"]["content"]) == ["application/problem+json"]


def test_a_route_is_counted_by_its_template(settings: ServingSettings) -> None:
    async def get(number: int) -> Echo:
        return Echo(name=str(number))

    router = APIRouter()
    router.add_api_route("/items/{number}", get)
    with TestClient(build(settings, router)) as client:
        client.get("/items/1")
        client.get("/items/2")
        counted = client.get("/metrics").text

    route = 'http_requests_total{method="GET",route="/items/{number}",status="200"}'
    assert f"{route} 2.0" in counted


@pytest.mark.parametrize("path", ["plain", "with a dependency"])
def test_an_answer_is_checked_and_filtered_on_every_route(
    settings: ServingSettings, path: str
) -> None:
    answers: dict[str, Any] = {
        "more": {"text": "a", "password": "secret"},
        "wrong": {"text": ["a"]},
    }

    async def answer(item: Item) -> Noted:
        return answers[item.name]  # type: ignore[no-any-return]

    async def answer_slowly(item: Item, _: Annotated[str, Depends(allow)]) -> Noted:
        return await answer(item)

    router = APIRouter()
    endpoint = answer if path == "plain" else answer_slowly
    router.add_api_route("/x", endpoint, methods=["POST"])
    with TestClient(build(settings, router), raise_server_exceptions=False) as client:
        assert client.post("/x", json={"name": "more"}).json() == {
            "text": "a",
            "note": None,
        }
        assert client.post("/x", json={"name": "wrong"}).status_code == 500


def test_a_handler_of_500_answers_a_crash_on_the_fast_path(
    settings: ServingSettings,
) -> None:
    async def crash(item: Item) -> Echo:
        raise RuntimeError("secret")

    router = APIRouter()
    router.add_api_route("/x", crash, methods=["POST"])
    app = build(settings, router)

    @app.exception_handler(500)
    async def on_crash(request: Request, error: Exception) -> Response:
        return JSONResponse({"own": "form"}, 500)

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/x", json={"name": "a"}).json() == {"own": "form"}


def test_a_value_is_validated_once_on_every_route(settings: ServingSettings) -> None:
    class Counted(Contract):
        number: Annotated[int, AfterValidator(lambda number: number + 1)]

    async def fast(numbers: Annotated[list[Counted], Body()]) -> list[int]:
        return [each.number for each in numbers]

    async def slow(
        number: Annotated[int, AfterValidator(lambda number: number + 1), Body()],
        _: Annotated[str, Depends(allow)],
    ) -> int:
        return number

    router = APIRouter()
    router.add_api_route("/fast", fast, methods=["POST"])
    router.add_api_route("/slow", slow, methods=["POST"])
    with TestClient(build(settings, router)) as client:
        assert client.post("/fast", json=[{"number": 1}]).json() == [2]
        assert client.post("/slow", json=1).json() == 2


def test_a_body_of_a_routers_dependency_is_read(settings: ServingSettings) -> None:
    def token(token: Annotated[str, Body()]) -> str:
        return token

    router = APIRouter()
    router.add_api_route("/x", plain, methods=["POST"])
    app = build(settings)
    app.include_router(router, dependencies=[Depends(token)])
    with TestClient(app) as client:
        good = client.post("/x", json={"item": {"name": "a"}, "token": "t"})
        bad = client.post("/x", json={"item": {"name": 1}, "token": "t"})

    assert good.json()["name"] == "a"
    assert bad.json()["errors"][0]["pointer"] == "/item/name"


def test_limits_hold_below_starlettes_base_middleware(
    settings: ServingSettings,
) -> None:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            yield b" " * 1_000

    router = APIRouter()
    router.add_api_route("/x", plain, methods=["POST"])
    router.add_api_route("/y", guarded, methods=["POST"])
    app = build(settings, router)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    headers = {"Content-Type": "application/json"}
    with TestClient(app, raise_server_exceptions=False) as client:
        for path in ("/x", "/y"):
            answer = client.post(path, content=parts(), headers=headers)
            assert answer.status_code == 413, path


def test_a_handler_of_an_error_may_read_the_body(settings: ServingSettings) -> None:
    async def fail(item: Item) -> Echo:
        raise Missing

    router = APIRouter()
    router.add_api_route("/x", fail, methods=["POST"])
    app = build(settings, router)

    @app.exception_handler(Missing)
    async def on_missing(request: Request, error: Missing) -> Response:
        return JSONResponse({"sent": await request.json()}, 404)

    with TestClient(app) as client:
        answer = client.post("/x", json={"name": "a"})
    assert answer.json() == {"sent": {"name": "a"}}
