"""The fast path: request bytes straight into the contract, the answer straight out.

FastAPI's own handling of a request (matching, dependency injection, parsing to objects
before validating, encoding afterwards) costs several times what a small model does. A
route of this class keeps FastAPI's signature and OpenAPI document, and replaces the
rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, cast

from fastapi.routing import APIRoute, RouteContext
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from app.limits import REFUSED
from app.problems import (
    CRASH,
    ProblemError,
    documented,
    from_http,
    invalid_request,
    problem_response,
    unavailable,
)
from app.service import Service

JSON = "application/json"


class ContractRoute(APIRoute):
    """For `async def endpoint(body: Some) -> Answer`, and nothing else.

    It reads a body within the limits of the service in `app.state`, and answers its
    problems itself.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Raises TypeError if the endpoint asks for what this route does not do."""
        documents = options.pop("responses", None) or {}
        options["responses"] = documented(400, 408, 413, 415, 422, 503) | documents
        super().__init__(path, endpoint, **options)
        if obstacles := self._obstacles():
            raise TypeError(
                f"{path} cannot be a ContractRoute, which takes one body and nothing "
                f"else: {'; '.join(obstacles)}. Mend it, or leave out "
                "route_class_override for this endpoint."
            )
        (body,) = self.dependant.body_params
        self._parameter = body.name
        self._contract = TypeAdapter[Any](cast(Any, body.field_info.annotation))
        self._answers = TypeAdapter[Any](self.response_model)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette's extension point: the ASGI application behind the path."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405
            return
        try:
            content = await self._answer(scope, receive)
        except ProblemError as error:
            await problem_response(error)(scope, receive, send)
            return
        except HTTPException as error:
            await problem_response(from_http(error))(scope, receive, send)
            return
        except Exception:
            await problem_response(CRASH)(scope, receive, send)
            raise  # the server logs the traceback

        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        service: Service = scope["app"].state.service
        headers = dict(reversed(scope["headers"]))  # of two of a name, the first counts
        check_media_type(headers)
        size = body_size(headers, service.settings.max_body_bytes)
        if not service.take_room(size):
            scope[REFUSED] = True
            most = service.settings.max_bytes_in_work
            raise unavailable(f"The service is at its limit of {most} bytes at once.")
        try:
            body = await read_in_time(receive, service)
            waited = await service.turns.take(len(body))
            try:
                if waited and await has_left(receive):
                    raise ProblemError(400, "The client left before its turn came.")
                request = self._parsed(body)
                answer = await self.endpoint(**{self._parameter: request})
                return self._answers.dump_json(
                    answer, exclude_none=self.response_model_exclude_none
                )
            finally:
                service.turns.give_back(len(body))
        finally:
            service.bytes_in_work -= size

    def _parsed(self, body: bytes) -> Any:
        try:
            return self._contract.validate_json(body)
        except ValidationError as error:
            raise invalid_request(error) from None

    def _obstacles(self) -> list[str]:
        """What of the endpoint would be passed by, in words."""
        asked = self.dependant
        parameters = asked.path_params + asked.query_params
        parameters += asked.header_params + asked.cookie_params
        special = (
            asked.request_param_name,
            asked.response_param_name,
            asked.background_tasks_param_name,
            asked.http_connection_param_name,
        )
        one_body = len(asked.body_params) == 1 and not self._embed_body_fields
        return [
            said
            for said, found in (
                ("it is no `async def`", not iscoroutinefunction(self.endpoint)),
                ("its answer has no type", self.response_model is None),
                ("its status is not 200", self.status_code not in (None, 200)),
                ("its method has no body", "GET" in (self.methods or ())),
                (
                    f"it has {len(asked.body_params)} bodies, or embeds one",
                    not one_body,
                ),
                ("it has a dependency", asked.dependencies),
                *((f"it has the parameter {one.name}", True) for one in parameters),
                *((f"it has the parameter {name}", name) for name in special),
            )
            if found
        ]


Routes = dict[tuple[str, str], ContractRoute]


def contract_routes(contexts: Iterable[RouteContext]) -> Routes:
    """Those of the routes that are contract routes, by method and path.

    Raises TypeError if a router asks for dependencies, which they would pass by.
    """
    routes: Routes = {}
    for context in contexts:
        route, path = context.original_route, str(context.path)
        if not isinstance(route, ContractRoute):
            continue
        if context.dependencies:
            raise TypeError(
                f"{path}: its router has dependencies, and a ContractRoute passes "
                "them by. Put the route into a router without."
            )
        routes |= {(method, path): route for method in context.methods or ()}
    return routes


class Shortcut:
    """ASGI middleware: leads the path of a `ContractRoute` past FastAPI's own layers.

    They end in the same `handle`, but cost more than a small model on the way.
    """

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if route is None:
            return self._app(scope, receive, send)
        return route.handle(scope, receive, send)


def check_media_type(headers: dict[bytes, bytes]) -> None:
    """Refuse (415) a body that does not call itself JSON."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given.partition(";")[0].strip().lower() != JSON:
        raise ProblemError(
            415,
            f"The Content-Type is {given!r}; send {JSON}.",
            headers={"Accept": JSON},
        )


def too_large(limit: int) -> ProblemError:
    """Refuse a body (413), and what else comes on its connection."""
    return ProblemError(
        413,
        f"The body is larger than {limit} bytes; send the instances in parts.",
        headers={"Connection": "close"},
    )


def body_size(headers: dict[bytes, bytes], limit: int) -> int:
    """The bytes that a body announces; the limit, if it does not say.

    Refuses (413) a body that announces more.
    """
    announced = headers.get(b"content-length", b"")
    if not announced.isdigit():
        return limit
    told = int(announced.lstrip(b"0")[:20] or 0)  # Python reads no 5,000 digits
    if told > limit:
        raise too_large(limit)
    return told


async def has_left(receive: Receive) -> bool:
    """Whether the client, whose whole body has come, waits no longer."""
    message = asyncio.ensure_future(receive())  # only that it left can come now
    await asyncio.sleep(0)
    left = message.done()
    message.cancel()
    return left


async def read_in_time(receive: Receive, service: Service) -> bytes:
    """The body; refuse one that takes too long (408) or is too large (413)."""
    settings = service.settings
    try:
        return await service.body_deadline.meet(
            read_body(receive, settings.max_body_bytes)
        )
    except TimeoutError:
        raise ProblemError(
            408,
            f"The body did not arrive within {settings.body_seconds} s.",
            headers={"Connection": "close"},
        ) from None


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read at most `limit` bytes; refuse (413) a larger body without holding it."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "The client left before the body was complete.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)
