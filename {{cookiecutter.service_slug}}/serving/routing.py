"""The fast path, and one validation of bodies for all routes.

FastAPI's handling of a request (matching, dependency injection, parsing, encoding)
costs several times as much as a small model. The fast path bypasses it for routes that
take one body and nothing else: it validates bytes and serialises the answer directly.
All other routes go through FastAPI, but validate their bodies with the same code, so
that the same mistake gives the same error.

This module uses internals of FastAPI, which are in
https://github.com/fastapi/fastapi/blob/master/fastapi/routing.py and
https://github.com/fastapi/fastapi/blob/master/fastapi/dependencies/utils.py
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import Annotated, Any, NamedTuple, TypeAlias, cast, get_type_hints

from fastapi import FastAPI, Request, Response, params
from fastapi._body_limit import wrap_app_with_body_limit
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.utils import _get_flat_body_params
from fastapi.responses import JSONResponse
from fastapi.routing import (
    APIRoute,
    RouteContext,
    _effective_route_context_var,
    request_response,
)
from pydantic import AliasChoices, BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import (
    CONTRACT_VIOLATION,
    UNSUPPORTED_CODING,
    UNSUPPORTED_MEDIA_TYPE,
    ProblemError,
    answer_problems,
    quote,
)
from serving.validation import INLINE_BYTES, BoundedValidator, run_outside

JSON = "application/json"
# Keys of a scope on the fast path: the exception of a handler, and the body.
ERROR = "serving.error"
BODY = "serving.body"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
RouteLike: TypeAlias = Any  # an APIRoute, or what FastAPI makes of it when included


class JsonBody:
    """Validate the JSON body of a route as the type that its handler declares."""

    def __init__(
        self, route: RouteLike, check_headers: Callable[[dict[bytes, bytes]], None]
    ) -> None:
        """`check_headers` raises ProblemError (415) for a body that is not JSON."""
        self.check_headers = check_headers
        field = route.body_field
        assert field is not None
        info = field.field_info
        self.required = info.is_required()
        validator = BoundedValidator(
            TypeAdapter[Any](cast(Any, Annotated[info.annotation, info]))
        )
        self.parse = validator.parse
        # FastAPI combines several bodies into a model with a field for each.
        self._embedded = route._embed_body_fields

    async def read(self, request: Request) -> Request:
        """Return the request with its body validated. Raises ProblemError (400, 415).

        A body that breaks the contract (422) is reported after the dependencies.
        """
        headers = dict(reversed(request.scope["headers"]))
        if self.required:
            self.check_headers(headers)
        body = await request.body()
        if not body and not self.required:
            return request
        self.check_headers(headers)
        try:
            if len(body) <= INLINE_BYTES:
                value = self.parse(body)
            else:
                value = await run_outside(self.parse, body)
        except ProblemError as error:
            if error.type is not CONTRACT_VIOLATION:
                raise
            # FastAPI solves the dependencies first: one of them may reject the client.
            return ParsedRequest(request, body, Invalid(error))
        if self._embedded:
            model = cast(BaseModel, value)
            fields = type(model).model_fields
            value = {
                _alias(fields[name]) or name: getattr(model, name)
                for name in model.model_fields_set
            }
        return ParsedRequest(request, body, value)


class Invalid(dict[str, Any]):
    """Stands for a body that breaks the contract, and for each of several bodies."""

    def __init__(self, error: ProblemError) -> None:
        super().__init__()
        self.error = error

    def get(self, *_: Any) -> Any:
        """Return what stands for one of several bodies."""
        return self


class ParsedRequest(Request):
    """A request whose body has been read and validated."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._body = body
        self._values = [value]

    async def json(self) -> Any:
        """Return the validated body once, to FastAPI; after that, what was sent."""
        return self._values.pop() if self._values else from_json(self._body)


class ContractRoute(APIRoute):
    """A FastAPI route that validates bodies as the fast path does.

    FastAPI validates Python objects, not JSON: a strict model would reject dates and
    enumerations, and messages would name Python types.
    """

    @staticmethod
    def check_headers(headers: dict[bytes, bytes]) -> None:
        """Raise ProblemError (415) for a body that is not accepted."""
        check_media_type(headers)

    def get_route_handler(self) -> Handler:
        """Return a handler that validates the body first.

        https://fastapi.tiangolo.com/how-to/custom-request-and-route/
        """
        handler = super().get_route_handler()
        # The router that includes a route may add dependencies, and so bodies.
        included = _effective_route_context_var.get()
        route: RouteLike = self
        if included is not None and included.original_route is self:
            route = included
        if not has_json_body(route):
            return handler
        body = JsonBody(route, self.check_headers)
        for field in _get_flat_body_params(route.dependant):
            field.validate = take_as_validated  # type: ignore[method-assign]

        async def handle(request: Request) -> Response:
            return await handler(await body.read(request))

        return handle


def prepare_routes(routes: Iterable[BaseRoute]) -> None:
    """Make routes, included routers and mounted applications validate alike.

    A route of a custom class keeps its class. Derive yours from `ContractRoute`.
    """
    for route in routes:
        # `include_router` keeps the router and builds the handlers later.
        if router := getattr(route, "original_router", None):
            prepare_routes(router.routes)
        elif isinstance(route, Mount) and isinstance(route.app, Starlette):
            answer_problems(route.app)
            prepare_routes(route.app.routes)
        elif type(route) is APIRoute:
            route.__class__ = ContractRoute
            # As `APIRoute.__init__` does, with the new handler.
            app = request_response(route.get_route_handler())
            route.app = wrap_app_with_body_limit(app, route.max_body_size)


class FastRoute:
    """The handler of a route that takes one body and nothing else."""

    def __init__(self, route: RouteContext) -> None:
        (parameter,) = route.dependant.body_params
        self._parameter = parameter.name
        self._endpoint = cast(Callable[..., Awaitable[Any]], route.endpoint)
        self._body = JsonBody(
            route, cast(ContractRoute, route.original_route).check_headers
        )
        self.status = route.status_code or 200
        answers = TypeAdapter[Any](route.response_model)
        self._answer_type = route.response_model
        self._validate = partial(answers.validate_python, from_attributes=True)
        self._encode = partial(
            answers.serializer.to_json,
            include=route.response_model_include,
            exclude=route.response_model_exclude,
            by_alias=route.response_model_by_alias,
            exclude_unset=route.response_model_exclude_unset,
            exclude_defaults=route.response_model_exclude_defaults,
            exclude_none=route.response_model_exclude_none,
        )

    async def answer(self, scope: Scope, receive: Receive) -> bytes | Response:
        """Return the body of the answer, or the response that the handler made."""
        self._body.check_headers(dict(reversed(scope["headers"])))
        body = scope[BODY] = await read_body(receive)
        is_small = len(body) <= INLINE_BYTES
        parse, encode = self._body.parse, self._encode
        request = parse(body) if is_small else await run_outside(parse, body)
        answer = await self._endpoint(**{self._parameter: request})
        if isinstance(answer, Response):
            return answer
        if type(answer) is not self._answer_type:  # as FastAPI does: check and filter
            answer = self._validate(answer)
        return encode(answer) if is_small else await run_outside(encode, answer)


class FastPath:
    """ASGI middleware that serves eligible routes and passes all others on."""

    def __init__(
        self, app: ASGIApp, routes: dict[tuple[str, str], FastRoute], errors: ASGIApp
    ) -> None:
        """`errors` responds to the exception in `scope[ERROR]`."""
        self._app = app
        self._routes = routes
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            await self._app(scope, receive, send)
            return
        try:
            answer = await route.answer(scope, receive)
        except Exception as error:
            scope[ERROR] = error
            await self._errors(scope, replay_body(scope, receive), send)
            return
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer)),
        ]
        await send(
            {"type": "http.response.start", "status": route.status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": answer})


def build_error_handler(app: FastAPI) -> ASGIApp:
    """Return an application that handles `scope[ERROR]` as FastAPI would."""
    handlers = dict(app.exception_handlers)
    by_class = handlers.pop(Exception, None)
    crash = handlers.pop(500, by_class)

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise scope[ERROR]

    return ServerErrorMiddleware(ExceptionMiddleware(fail, handlers), handler=crash)


class RoutePlan(NamedTuple):
    """The routes of the fast path, and the reason for each other route."""

    fast: dict[tuple[str, str], FastRoute]
    through_fastapi: dict[tuple[str, str], str]

    def __str__(self) -> str:
        fast = ", ".join(map(" ".join, self.fast)) or "no route"
        others = ", ".join(
            f"{method} {path} ({reason})"
            for (method, path), reason in self.through_fastapi.items()
        )
        return f"Fast path: {fast}. Through FastAPI: {others or 'no route'}."


def plan_routes(contexts: Iterable[RouteContext], obstacle: str = "") -> RoutePlan:
    """Choose the path of each route. A given `obstacle` applies to all of them."""
    plan = RoutePlan({}, {})
    earlier: list[RouteContext] = []
    for context in contexts:
        if not isinstance(context.original_route, APIRoute):
            earlier.append(context)
            continue  # Starlette's own: documentation, mounts
        path = str(context.path)
        for method in sorted(getattr(context, "methods", None) or ()):
            key = (method, path)
            if key in plan.fast or key in plan.through_fastapi:
                continue  # the first of two wins
            reason = (
                obstacle
                or find_obstacle(context)
                or find_earlier_match(path, method, earlier)
            )
            if reason:
                plan.through_fastapi[key] = reason
            else:
                plan.fast[key] = FastRoute(context)
        earlier.append(context)
    return plan


def find_obstacle(route: RouteContext) -> str:
    """Return why a route cannot take the fast path, or an empty string."""
    handler = getattr(type(route.original_route), "get_route_handler", None)
    if handler is not ContractRoute.get_route_handler:
        return "it has a custom route class"
    asked = route.dependant
    if getattr(route, "max_body_size", None) is not None:
        return "it has a body limit of its own"
    if not has_json_body(route):
        return "it takes no JSON body"
    if len(asked.body_params) != 1 or route._embed_body_fields:
        return "it takes several bodies, or embeds one"
    if not route.body_field.field_info.is_required():
        return "its body is optional"
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
        return "it is not an `async def`"
    if route.response_model is None:
        return "its answer has no type"
    if route.response_model != find_return_type(route.endpoint):
        return "its answer is declared by response_model"
    if not is_plain_json(route.response_class):
        return "it has a response class"
    return ""


def find_earlier_match(path: str, method: str, earlier: Iterable[RouteContext]) -> str:
    """Return which earlier route matches a path first, or an empty string."""
    for route in earlier:
        methods = getattr(route, "methods", None) or {method}
        pattern = getattr(route, "path_regex", None)
        if method in methods and (pattern is None or pattern.match(path)):
            return f"{route.path} comes first"
    return ""


def replay_body(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` for handlers of exceptions, which may read the body again."""
    if BODY not in scope:
        return receive

    async def receive_again() -> Message:
        if BODY in scope:
            return {"type": "http.request", "body": scope.pop(BODY)}
        return await receive()

    return receive_again


def take_as_validated(value: Any, *_: Any, **__: Any) -> tuple[Any, list[Any]]:
    """Replace `ModelField.validate` of a body, which `JsonBody` has validated.

    Raises ProblemError (422) for a body that breaks the contract.
    """
    if isinstance(value, Invalid):
        raise value.error
    return value, []


def find_return_type(endpoint: Callable[..., Any]) -> Any:
    """Return the type of a handler's answer; None if it cannot be found."""
    try:
        return get_type_hints(endpoint, include_extras=True).get("return")
    except Exception:  # a name that is only known elsewhere
        return None


def has_json_body(route: RouteLike) -> bool:
    """Return whether a route has a body that it declares as JSON.

    FastAPI reads forms, and bodies of another media type, such as `Body(media_type=…)`.
    """
    info = None if route.body_field is None else route.body_field.field_info
    return isinstance(info, params.Body) and info.media_type == JSON


def is_plain_json(response_class: Any) -> bool:
    """Return whether the response class is FastAPI's default, JSON."""
    if isinstance(response_class, DefaultPlaceholder):
        response_class = response_class.value
    return response_class is JSONResponse


def check_media_type(headers: dict[bytes, bytes]) -> None:
    """Raise ProblemError (415) if the body is not declared as JSON, or compressed."""
    coding = headers.get(b"content-encoding", b"").strip()
    if coding and coding.lower() != b"identity":
        raise ProblemError(
            UNSUPPORTED_CODING,
            f"The Content-Encoding is {quote(coding)}; send the JSON as it is.",
            headers={"Accept-Encoding": "identity"},
        )
    given = headers.get(b"content-type", b"")
    if given == b"application/json":
        return
    if given.partition(b";")[0].strip().lower() == b"application/json":
        return
    raise ProblemError(
        UNSUPPORTED_MEDIA_TYPE,
        f"The Content-Type is {quote(given)}; send {JSON}.",
        headers={"Accept": JSON},
    )


async def read_body(receive: Receive) -> bytes:
    """Return the whole body. The admission layer bounds its size and time."""
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
    return b""  # no body was announced, and the client has left


def _alias(field: FieldInfo) -> str | None:
    """Return the name by which FastAPI looks for a parameter in a body."""
    alias = field.validation_alias or field.alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0]
    return alias if isinstance(alias, str) else field.alias
