"""Errors as problem documents (RFC 9457), for every 4xx and 5xx of the service."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from app.contract import InvalidField, Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 1  # seconds

_, SCHEMAS = models_json_schema(
    [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
)


REASONS = {
    400: "The body is not JSON",
    408: "The body takes too long",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "The body breaks the contract",
    503: "Not ready, or too busy",
}


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The error answers of an endpoint, for the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": REASONS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


class ProblemError(Exception):
    """Raise it anywhere in a request to end the request with this problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[InvalidField] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers


# The server logs the traceback: the client must not see it.
CRASH = ProblemError(500, "The service failed to answer; its log says why.")


def problem_response(error: ProblemError) -> Response:
    """Write the error as a problem document."""
    problem = Problem(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=error.detail,
        errors=error.errors,
    )
    return Response(
        problem.model_dump_json(exclude_none=True),
        error.status,
        error.headers,
        MEDIA_TYPE,
    )


def unavailable(detail: str) -> ProblemError:
    """Answer 503 and tell the client when to come back."""
    return ProblemError(503, detail, headers={"Retry-After": str(RETRY_AFTER)})


def invalid_request(error: ValidationError) -> ProblemError:
    """Tell bytes that are no JSON (400) from JSON that breaks the contract (422)."""
    mistakes = error.errors(include_url=False, include_input=False)
    if mistakes[0]["type"] == "json_invalid":
        return ProblemError(400, f"The body is not valid JSON: {mistakes[0]['msg']}.")

    return broken([_mistake(mistake["loc"], mistake["msg"]) for mistake in mistakes])


def broken(errors: list[InvalidField]) -> ProblemError:
    """Refuse (422) a request with these mistakes."""
    return ProblemError(
        422,
        f"The request breaks the contract in {len(errors)} place(s).",
        errors=errors,
    )


def _mistake(location: tuple[int | str, ...], message: str) -> InvalidField:
    return InvalidField(pointer=_pointer(location), detail=message)


def _pointer(location: tuple[int | str, ...]) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)


def from_http(error: HTTPException) -> ProblemError:
    """What Starlette and FastAPI raise, as a problem."""
    return ProblemError(error.status_code, error.detail, headers=error.headers)


def install(app: FastAPI) -> None:
    """Turn every exception of the application into a problem document."""
    write_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        # FastAPI would name the schema in the document only as application/json.
        document = write_openapi()
        document["components"]["schemas"].update(SCHEMAS["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    async def on_problem(request: Request, error: ProblemError) -> Response:
        return problem_response(error)

    async def on_http(request: Request, error: HTTPException) -> Response:
        return problem_response(from_http(error))

    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        # FastAPI would repeat what was sent, which may be anything.
        errors = [
            _mistake(mistake["loc"], mistake["msg"]) for mistake in error.errors()
        ]
        return problem_response(broken(errors))

    async def on_crash(request: Request, error: Exception) -> Response:
        return problem_response(CRASH)

    app.add_exception_handler(ProblemError, on_problem)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, on_http)  # type: ignore[arg-type]
    app.add_exception_handler(
        RequestValidationError, on_invalid  # type: ignore[arg-type]
    )
    app.add_exception_handler(Exception, on_crash)
