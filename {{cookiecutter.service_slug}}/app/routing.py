"""The fast path: request bytes straight into the contract, the answer straight out.

FastAPI's own handling of a request (dependency injection, parsing to objects before
validating, encoding afterwards) costs several times what a small model does. A route
of this class keeps FastAPI's signature, routing and OpenAPI document, and replaces the
rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from app.problems import ProblemError, invalid_request
from app.settings import Settings

JSON = "application/json"

Endpoint = Callable[[BaseModel], Awaitable[BaseModel]]


class ContractRoute(APIRoute):
    """For `async def endpoint(body: SomeModel) -> OtherModel`, and nothing else.

    It reads a body of `max_body_bytes` within `body_seconds` of the settings of
    the service in `app.state`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's extension point: what turns a request into an answer."""
        if self.body_field is None:
            raise TypeError(f"{self.path}: the endpoint takes no body")
        contract = cast(type[BaseModel], self.body_field.field_info.annotation)
        endpoint = cast(Endpoint, self.endpoint)

        async def handle(request: Request) -> Response:
            check_media_type(request)
            settings: Settings = request.app.state.service.settings
            try:
                async with asyncio.timeout(settings.body_seconds):
                    body = await read_body(request, settings.max_body_bytes)
            except TimeoutError:
                raise ProblemError(
                    408,
                    f"The body did not arrive within {settings.body_seconds} s.",
                    headers={"Connection": "close"},
                ) from None
            try:
                parsed = contract.model_validate_json(body)
            except ValidationError as error:
                raise invalid_request(error) from None
            answer = await endpoint(parsed)
            return Response(answer.model_dump_json(exclude_none=True), media_type=JSON)

        return handle


def check_media_type(request: Request) -> None:
    """Refuse (415) a body that does not call itself JSON."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != JSON:
        raise ProblemError(
            415,
            f"The Content-Type is {given!r}; send {JSON}.",
            headers={"Accept": JSON},
        )


async def read_body(request: Request, limit: int) -> bytes:
    """Read at most `limit` bytes; refuse (413) a larger body without holding it."""
    too_large = ProblemError(
        413,
        f"The body is larger than {limit} bytes; send the instances in parts.",
        headers={"Connection": "close"},
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large

    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)
