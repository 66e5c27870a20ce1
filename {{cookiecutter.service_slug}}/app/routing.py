"""The fast path: request bytes straight into the contract, the answer straight out.

FastAPI's own handling of a request (matching, dependency injection, parsing to objects
before validating, encoding afterwards) costs several times what a small model does. A
route of this class keeps FastAPI's signature and OpenAPI document, and replaces the
rest.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import CRASH, ProblemError, invalid_request, problem_response
from app.service import Service

JSON = "application/json"

Endpoint = Callable[[BaseModel], Awaitable[object]]


class ContractRoute(APIRoute):
    """For `async def endpoint(body: SomeModel) -> Answer`, and nothing else.

    It reads a body within the limits of the service in `app.state`, and answers its
    problems itself.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self.body_field is None:
            raise TypeError(f"{path}: the endpoint takes no body")
        self._contract = cast(type[BaseModel], self.body_field.field_info.annotation)
        self.taken = frozenset(self.methods or ())
        self._written = TypeAdapter(self.response_model)
        self._endpoint = cast(Endpoint, endpoint)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette's extension point: the ASGI application behind the path."""
        if scope["method"] not in self.taken:
            await super().handle(scope, receive, send)  # 405
            return
        try:
            content = await self._answer(scope, receive)
        except ProblemError as error:
            await problem_response(error)(scope, receive, send)
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
        settings = service.settings
        headers = dict(reversed(scope["headers"]))  # of two of a name, the first counts
        check_media_type(headers)
        try:
            body = await service.body_deadline.meet(
                read_body(headers, receive, settings.max_body_bytes)
            )
        except TimeoutError:
            raise ProblemError(
                408,
                f"The body did not arrive within {settings.body_seconds} s.",
                headers={"Connection": "close"},
            ) from None
        try:
            parsed = self._contract.model_validate_json(body)
        except ValidationError as error:
            raise invalid_request(error) from None
        answer = await self._endpoint(parsed)
        return self._written.dump_json(answer, exclude_none=True)


class Shortcut:
    """ASGI middleware: leads the path of a `ContractRoute` past FastAPI's own layers.

    They end in the same `handle`, but cost more than a small model on the way.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, ContractRoute)
            for method in route.taken
        }

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


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Read at most `limit` bytes; refuse (413) a larger body without holding it."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(limit)

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
