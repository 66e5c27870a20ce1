"""The fast path, and the same validation of bodies on every route.

FastAPI's own handling of a request (matching, dependency injection, parsing to objects
before validating, encoding afterwards) costs several times what a small model does. A
route that takes one body and nothing else is answered past it: from bytes into the
contract, from the answer into bytes. All other routes go through FastAPI, and their
bodies are validated by the same code, so that the same mistake has the same answer.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from inspect import iscoroutinefunction
from typing import Annotated, Any, NamedTuple, cast

from fastapi import FastAPI, Request, Response, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, RouteContext, request_response
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.problems import (
    CLIENT_LEFT,
    UNSUPPORTED_MEDIA_TYPE,
    ProblemError,
    answer_problems,
    invalid_body,
)

JSON = "application/json"
ERROR = "serving.error"  # in a scope: what a handler on the fast path has raised

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonBody:
    """Reads the JSON body of a route from bytes into what its handler declares."""

    def __init__(self, route: "APIRoute | RouteContext") -> None:
        field = route.body_field
        assert field is not None
        info = field.field_info
        self.required = info.is_required()
        self._adapter = TypeAdapter[Any](cast(Any, Annotated[info.annotation, info]))
        # FastAPI puts several bodies into one model, a field for each parameter.
        self._embedded = route._embed_body_fields

    def parse(self, body: bytes) -> Any:
        """Validate a body. Raises ProblemError (400, 422)."""
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            raise invalid_body(error) from None

    async def read(self, request: Request) -> Request:
        """Return the request with its body validated. Raises ProblemError."""
        headers = dict(reversed(request.scope["headers"]))
        if self.required:
            check_media_type(headers)
        body = await request.body()
        if not body and not self.required:
            return request
        check_media_type(headers)
        value = self.parse(body)
        if self._embedded:
            model = cast(BaseModel, value)
            fields = type(model).model_fields
            value = {
                fields[name].alias or name: getattr(model, name)
                for name in model.model_fields_set
            }
        return ParsedRequest(request, body, value)


class ParsedRequest(Request):
    """A request whose body is already read and validated."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._body = body
        self._value = value

    async def json(self) -> Any:
        """Return the validated body: FastAPI takes it as it is."""
        return self._value


class ContractRoute(APIRoute):
    """FastAPI's route, with bodies validated as on the fast path.

    FastAPI parses to Python objects before it validates: a strict model would refuse
    dates and enumerations, and messages would speak of Python's types.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's extension point for a Request of one's own.

        https://fastapi.tiangolo.com/how-to/custom-request-and-route/
        """
        handler = super().get_route_handler()
        if not has_json_body(self):
            return handler
        body = JsonBody(self)

        async def handle(request: Request) -> Response:
            return await handler(await body.read(request))

        return handle


def adopt(routes: Iterable[BaseRoute]) -> None:
    """Give the same rules to routes, included routers and mounted applications.

    A route with a class of its own keeps it.
    """
    for route in routes:
        # `include_router` keeps the router and asks its routes for handlers later:
        # https://github.com/fastapi/fastapi/blob/master/fastapi/routing.py
        if router := getattr(route, "original_router", None):
            adopt(router.routes)
        elif isinstance(route, Mount) and isinstance(route.app, FastAPI):
            answer_problems(route.app)
            adopt(route.app.routes)
        elif type(route) is APIRoute:
            route.__class__ = ContractRoute
            route.app = request_response(route.get_route_handler())


class FastRoute:
    """An ASGI application for one route that takes one body and nothing else."""

    def __init__(self, route: RouteContext) -> None:
        (parameter,) = route.dependant.body_params
        self._parameter = parameter.name
        self._endpoint = cast(Callable[..., Awaitable[Any]], route.endpoint)
        self._body = JsonBody(route)
        self._status = route.status_code or 200
        self._answers = TypeAdapter[Any](route.response_model)
        self._options = {
            "include": route.response_model_include,
            "exclude": route.response_model_exclude,
            "by_alias": route.response_model_by_alias,
            "exclude_unset": route.response_model_exclude_unset,
            "exclude_defaults": route.response_model_exclude_defaults,
            "exclude_none": route.response_model_exclude_none,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_media_type(dict(reversed(scope["headers"])))
        request = self._body.parse(await read_body(receive))
        answer = await self._endpoint(**{self._parameter: request})
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return

        content = self._answers.dump_json(answer, **self._options)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        await send(
            {"type": "http.response.start", "status": self._status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": content})


class FastPath:
    """ASGI middleware: answers the routes that allow it, and hands on all others."""

    def __init__(
        self, app: ASGIApp, routes: dict[tuple[str, str], FastRoute], errors: ASGIApp
    ) -> None:
        """`errors` answers the exception that it finds in the scope as `ERROR`."""
        self._app = app
        self._routes = routes
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            await self._app(scope, receive, send)
            return
        try:
            await route(scope, receive, send)
        except Exception as error:
            scope[ERROR] = error
            await self._errors(scope, receive, send)


def error_handling(app: FastAPI) -> ASGIApp:
    """Return an application that answers `ERROR` as FastAPI answers exceptions."""
    handlers = dict(app.exception_handlers)
    crash = handlers.pop(500, None) or handlers.pop(Exception, None)

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise scope[ERROR]

    return ServerErrorMiddleware(ExceptionMiddleware(fail, handlers), handler=crash)


class Ways(NamedTuple):
    """Which routes take the fast path, and why others do not."""

    fast: dict[tuple[str, str], FastRoute]
    through_fastapi: dict[tuple[str, str], str]

    def __str__(self) -> str:
        fast = ", ".join(map(" ".join, self.fast)) or "no route"
        others = ", ".join(
            f"{method} {path} ({reason})"
            for (method, path), reason in self.through_fastapi.items()
        )
        return f"Fast path: {fast}. Through FastAPI: {others or 'no route'}."


def find_ways(contexts: Iterable[RouteContext], obstacle: str = "") -> Ways:
    """Decide for each route how it is answered; an `obstacle` holds for all of them."""
    ways = Ways({}, {})
    earlier: list[RouteContext] = []
    for context in contexts:
        if not isinstance(context.original_route, APIRoute):
            earlier.append(context)
            continue  # Starlette's: the pages of the documentation, what is mounted
        path = str(context.path)
        for method in sorted(getattr(context, "methods", None) or ()):
            key = (method, path)
            if key in ways.fast or key in ways.through_fastapi:
                continue  # the first of two counts
            reason = (
                obstacle or first_obstacle(context) or shadow(path, method, earlier)
            )
            if reason:
                ways.through_fastapi[key] = reason
            else:
                ways.fast[key] = FastRoute(context)
        earlier.append(context)
    return ways


def first_obstacle(route: RouteContext) -> str:
    """Return what of a route the fast path does not do; empty if it does all."""
    if not isinstance(route.original_route, ContractRoute):
        return "it is not FastAPI's own kind of route"
    asked = route.dependant
    if not has_json_body(route):
        return "it takes no JSON body"
    if len(asked.body_params) != 1 or route._embed_body_fields:
        return "it takes several bodies, or embeds one"
    if not route.body_field.field_info.is_required():
        return "its body may be left out"
    if asked.dependencies:
        return "it has a dependency"
    parameters = (
        *(asked.path_params + asked.query_params),
        *(asked.header_params + asked.cookie_params),
    )
    if parameters:
        return f"it has the parameter {parameters[0].name}"
    special = (
        asked.request_param_name,
        asked.response_param_name,
        asked.background_tasks_param_name,
        asked.http_connection_param_name,
        asked.security_scopes_param_name,
    )
    if any(special):
        return f"it has the parameter {next(filter(None, special))}"
    if not iscoroutinefunction(route.endpoint):
        return "it is no `async def`"
    if route.response_model is None:
        return "its answer has no type"
    if route.response_model is not route.endpoint.__annotations__.get("return"):
        return "its answer is declared by response_model"
    if not is_plain_json(route.response_class):
        return "it has a response class"
    return ""


def shadow(path: str, method: str, earlier: Iterable[RouteContext]) -> str:
    """Return which earlier route takes the requests to a path; empty if none does."""
    for route in earlier:
        methods = getattr(route, "methods", None) or {method}
        pattern = getattr(route, "path_regex", None)
        if method in methods and (pattern is None or pattern.match(path)):
            return f"{route.path} comes first"
    return ""


def has_json_body(route: "APIRoute | RouteContext") -> bool:
    """Return whether a route reads a body that is no form."""
    field = route.body_field
    return field is not None and not isinstance(field.field_info, params.Form)


def is_plain_json(response_class: Any) -> bool:
    """Return whether answers are FastAPI's default: JSON."""
    if isinstance(response_class, DefaultPlaceholder):
        response_class = response_class.value
    return response_class is JSONResponse


def check_media_type(headers: dict[bytes, bytes]) -> None:
    """Refuse (415) a body that does not call itself JSON."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given == JSON or given.partition(";")[0].strip().lower() == JSON:
        return
    raise ProblemError(
        UNSUPPORTED_MEDIA_TYPE,
        f"The Content-Type is {given!r}; send {JSON}.",
        headers={"Accept": JSON},
    )


async def read_body(receive: Receive) -> bytes:
    """Read a body, which the admission layer bounds in size and time."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        return body
    chunks: list[bytes] = []
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ProblemError(CLIENT_LEFT, "The client left before the body was complete.")
