"""Turn every 4xx and 5xx into a problem document (RFC 9457).

docs/problems.md lists the types. A test compares it with `TYPES`.
"""

from collections.abc import Awaitable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, cast, get_args

from fastapi import Request, Response
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from serving.contract import Contract
from serving.requests import ROUTE_PATH, UNLIMITED, V2

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 1  # seconds
MAX_LISTED = 100  # mistakes in `errors`
MAX_IN_TEXT = 3  # mistakes in `error`
MAX_READ = 6_000  # mistakes; reading more from pydantic would block the event loop
MAX_QUOTED = 200  # characters of a text that a client sent
MAX_TEXT = 1_000  # bytes of an error in plain text that becomes a problem document

Location = Literal["body", "path", "query", "header", "cookie"]


class InvalidField(Contract):
    """One mistake in a request: its place (a JSON Pointer, RFC 6901) and reason.

    `location` is what the pointer refers to: the body or a kind of parameter.
    """

    location: Location = "body"
    pointer: str
    detail: str


class Problem(Contract):
    """A problem document (RFC 9457), the body of every error response.

    Below `/v2`, `error` is detail and mistakes in one text.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = None
    error: str | None = None


class ProblemType(NamedTuple):
    """A cause of errors, which clients identify by its URI.

    Define your own in one line: `QUOTA = ProblemType("quota-exceeded", 429, …)`.
    """

    name: str
    status: int
    title: str

    @property
    def uri(self) -> str:
        """Return the `type` of the problem documents."""
        return f"urn:problem-type:{self.name}"


INVALID_HTTP = ProblemType("invalid-http", 400, "The request is not HTTP/1.1")
INVALID_JSON = ProblemType("invalid-json", 400, "The body is not JSON")
CLIENT_LEFT = ProblemType("client-left", 400, "The client left")
UNAUTHORIZED = ProblemType("unauthorized", 401, "The API key is missing or unknown")
NOT_FOUND = ProblemType("not-found", 404, "There is nothing at this path")
UNKNOWN_MODEL = ProblemType("unknown-model", 404, "The service has no such model")
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed", 405, "The route does not have this method"
)
HEAD_TIMEOUT = ProblemType(
    "head-timeout", 408, "The head of the request took too long to arrive"
)
BODY_TIMEOUT = ProblemType("body-timeout", 408, "The body took too long to arrive")
BODY_TOO_LARGE = ProblemType("body-too-large", 413, "The body is too large")
UNSUPPORTED_CODING = ProblemType(
    "unsupported-content-coding", 415, "The body is compressed"
)
TARGET_TOO_LONG = ProblemType("target-too-long", 414, "The request line is too long")
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type", 415, "The body is not declared as JSON"
)
BINARY_TENSORS = ProblemType(
    "binary-tensors", 415, "The tensors of the request are binary"
)
CONTRACT_VIOLATION = ProblemType(
    "contract-violation", 422, "The request breaks the contract"
)
NO_PREDICTION = ProblemType(
    "no-prediction", 422, "The model has no answer to an instance"
)
HEAD_TOO_LARGE = ProblemType(
    "head-too-large", 431, "The head of the request is too large"
)
INTERNAL_ERROR = ProblemType("internal-error", 500, "The service failed to answer")
UNKNOWN_CODING = ProblemType(
    "unknown-transfer-coding", 501, "The transfer coding of the body is not known"
)
NOT_READY = ProblemType("not-ready", 503, "The service takes no traffic now")
TOO_MANY_REQUESTS = ProblemType(
    "too-many-requests-in-flight", 503, "Too many requests are in flight"
)
TOO_MANY_BYTES = ProblemType(
    "too-many-bytes-in-work", 503, "Too many bytes of bodies are in work"
)

TYPES = (
    *(INVALID_HTTP, INVALID_JSON, CLIENT_LEFT, UNAUTHORIZED, NOT_FOUND),
    *(METHOD_NOT_ALLOWED, HEAD_TIMEOUT, BODY_TIMEOUT, BODY_TOO_LARGE, TARGET_TOO_LONG),
    *(UNSUPPORTED_CODING, UNSUPPORTED_MEDIA_TYPE, CONTRACT_VIOLATION, NO_PREDICTION),
    *(HEAD_TOO_LARGE, INTERNAL_ERROR, UNKNOWN_CODING, NOT_READY, TOO_MANY_REQUESTS),
    *(TOO_MANY_BYTES, UNKNOWN_MODEL, BINARY_TENSORS),
)
# Problems before a request reaches an operation: no operation documents them.
OF_CONNECTIONS = (
    *(INVALID_HTTP, HEAD_TIMEOUT, TARGET_TOO_LONG, HEAD_TOO_LARGE, UNKNOWN_CODING),
)
# Types of the errors that Starlette and FastAPI raise as HTTPException, by status.
_PLAIN = {
    type_.status: type_ for type_ in (NOT_FOUND, METHOD_NOT_ALLOWED, BODY_TOO_LARGE)
}


class ProblemError(HTTPException):
    """An error that ends its request with a problem document.

    Raise it anywhere in a request. It is an HTTPException, so FastAPI handles it:

        raise ProblemError(NOT_FOUND, f"There is no order {number}.")
    """

    def __init__(
        self,
        type_: ProblemType,
        detail: str,
        *,
        errors: list[InvalidField] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(type_.status, detail, headers)
        self.type = type_
        self.errors = errors


# The traceback goes to the log, never to the client. The server closes the connection.
CRASH = ProblemError(
    INTERNAL_ERROR,
    "The service failed to answer; its log says why.",
    headers={"Connection": "close"},
)


class ProblemResponse(Response):
    """A problem document, with `error` if the path is one of the V2 protocol."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None) -> None:
        super().__init__(_encode(problem), problem.status, headers, MEDIA_TYPE)
        self._problem = problem
        self._given_headers = headers
        self._with_error: Response | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document."""
        path = scope.get(ROUTE_PATH) or scope.get("path", "")
        if path != V2 and not path.startswith(f"{V2}/"):
            await super().__call__(scope, receive, send)
            return
        if self._with_error is None:  # made once: one may answer many requests
            problem = self._problem.model_copy(
                update={"error": _summarise(self._problem)}
            )
            self._with_error = Response(
                _encode(problem), problem.status, self._given_headers, MEDIA_TYPE
            )
        await self._with_error(scope, receive, send)


def _encode(problem: Problem) -> str:
    return problem.model_dump_json(exclude_none=True)


def _summarise(problem: Problem) -> str:
    """Return the detail and the first mistakes as one text."""
    mistakes = (problem.errors or [])[:MAX_IN_TEXT]
    sentences = (f"{one.pointer}: {one.detail.rstrip('.')}." for one in mistakes)
    return " ".join([problem.detail, *sentences])


def problem_response(error: HTTPException) -> Response:
    """Return an error as a problem document."""
    if error.status_code < 200 or error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    type_, errors = _PLAIN.get(error.status_code), None
    if isinstance(error, ProblemError):
        type_, errors = error.type, error.errors
    # FastAPI allows any JSON; a problem document has a text.
    detail: Any = error.detail
    if not isinstance(detail, str):
        detail = to_json(detail, fallback=str, inf_nan_mode="constants").decode()
    problem = Problem(
        type=type_.uri if type_ else "about:blank",
        title=type_.title if type_ else _phrase(error.status_code),
        status=error.status_code,
        detail=detail,
        errors=errors,
    )
    return ProblemResponse(problem, error.headers)


def is_text_error(start: Message) -> bool:
    """Return whether an error is a short plain text, such as those of Starlette."""
    headers = dict(start["headers"])
    media_type = headers.get(b"content-type", b"").partition(b";")[0]
    return (
        media_type.strip().lower() == b"text/plain"
        and int(headers.get(b"content-length", MAX_TEXT + 1)) <= MAX_TEXT
        and b"content-encoding" not in headers
    )


class TextError:
    """An error in plain text that is sent as a problem document.

    Starlette sends some itself and raises no exception: for ranges of files, hosts that
    are not allowed and the preflights of CORS.
    """

    def __init__(self, start: Message) -> None:
        self._status: int = start["status"]
        self._headers = [
            (name, value)
            for name, value in start["headers"]
            if name not in (b"content-type", b"content-length")
        ]
        self._text = b""
        self.is_held = True  # nothing of it has been sent

    async def hold(self) -> None:
        """Send nothing yet."""

    async def add(
        self, message: Message, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Add a part of the text. Send the problem document after the last one."""
        self._text += message.get("body", b"")
        if message.get("more_body", False):
            return
        self.is_held = False
        detail = self._text.decode("utf-8", "replace") or _phrase(self._status)

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] += self._headers
            return send(message)

        problem = problem_response(HTTPException(self._status, detail))
        await problem(scope, receive, send_with_headers)


def unavailable(type_: ProblemType, detail: str) -> ProblemError:
    """Return a 503 with Retry-After."""
    return ProblemError(type_, detail, headers={"Retry-After": str(RETRY_AFTER)})


def invalid_body(error: ValidationError, *, complete: bool = True) -> ProblemError:
    """Return 400 for a body that is not JSON, 422 for one that breaks the contract.

    A validation that is not `complete` has stopped at the first bad item of a list.
    """
    count = error.error_count()
    if count > MAX_READ:
        many = InvalidField(pointer="", detail=f"Has {count} mistakes, or more")
        return contract_violation([many], count, complete=False)
    mistakes = error.errors(include_url=False, include_input=False)
    if mistakes[0]["type"] == "json_invalid":
        reason = mistakes[0]["msg"].removeprefix("Invalid JSON: ")
        return ProblemError(INVALID_JSON, f"The body is not valid JSON: {reason}.")
    listed = [
        InvalidField(pointer=_pointer(mistake["loc"]), detail=shorten(mistake["msg"]))
        for mistake in mistakes[:MAX_LISTED]
    ]
    return contract_violation(listed, count, complete=complete)


def contract_violation(
    errors: list[InvalidField], count: int | None = None, *, complete: bool = True
) -> ProblemError:
    """Return a 422 that lists the first of these mistakes and states their number."""
    count = count or len(errors)
    places = f"{count} place(s)" if complete else f"at least {count} place(s)"
    listed = errors[:MAX_LISTED]
    more = "" if len(listed) == count else f" `errors` lists the first {len(listed)}."
    return ProblemError(
        CONTRACT_VIOLATION,
        f"The request breaks the contract in {places}.{more}",
        errors=listed,
    )


def shorten(text: str) -> str:
    """Return the beginning of a text that a client sent."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def quote(value: bytes) -> str:
    """Return the beginning of a header's value, in quotes."""
    return repr(shorten(value[: MAX_QUOTED + 1].decode("latin-1")))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of an endpoint that raises these statuses."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": " / ".join(
                [
                    type_.title
                    for type_ in TYPES
                    if type_.status == status and type_ not in OF_CONNECTIONS
                ]
                or [_phrase(status)]
            ),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def document_problems(document: dict[str, Any]) -> None:
    """Add the problems of each operation to an OpenAPI document.

    FastAPI's own schema of a 422 is removed, because this service never sends it.
    Raises ValueError if another class has the name of one of the engine's.
    """
    _, models = models_json_schema(
        [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, model in models["$defs"].items():
        known = schemas.setdefault(name, model)
        if known.get("properties", {}).keys() != model["properties"].keys():
            raise ValueError(
                f"A class of yours is called {name}, as one of serving/problems.py is, "
                "and the OpenAPI document can have only one of them. Rename yours."
            )
        schemas[name] = model
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_problems(path, operation)
    if "HTTPValidationError" not in str([document["paths"], document.get("webhooks")]):
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)


def _add_problems(path: str, operation: dict[str, Any]) -> None:
    statuses: list[int] = [] if path in UNLIMITED else [503]
    if body := operation.get("requestBody"):
        unsupported = [415] if "application/json" in body["content"] else []
        statuses += [400, 408, 413, *unsupported, 422]
    elif "parameters" in operation:
        statuses += [422]
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422", "")):
        del answers["422"]
    for status, answer in documented(*statuses).items():
        answers.setdefault(str(status), answer)


def answer_problems(app: Starlette) -> None:
    """Handle the exceptions of an application with problem documents.

    Handlers that the application has set itself stay in place.
    """

    async def on_http(request: Request, error: HTTPException) -> Response:
        return problem_response(error)

    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        count = len(error.errors())
        return problem_response(contract_violation(_request_mistakes(error), count))

    async def on_group(request: Request, error: Exception) -> Response:
        # Below BaseHTTPMiddleware, `receive` runs in a task group, which wraps errors:
        # https://github.com/Kludex/starlette/blob/main/starlette/middleware/base.py
        cause: BaseException = error
        while isinstance(cause, ExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, HTTPException):
            return problem_response(cause)
        raise error

    async def on_crash(request: Request, error: Exception) -> Response:
        return problem_response(CRASH)

    handlers = app.exception_handlers
    if handlers.get(HTTPException) in (None, http_exception_handler):
        handlers[HTTPException] = on_http
    if handlers.get(RequestValidationError) is request_validation_exception_handler:
        handlers[RequestValidationError] = on_invalid
    handlers.setdefault(ExceptionGroup, on_group)
    handlers.setdefault(Exception, on_crash)


def _request_mistakes(error: RequestValidationError) -> list[InvalidField]:
    """Return the first mistakes of a request, without the values that were sent."""
    mistakes = []
    for mistake in error.errors()[:MAX_LISTED]:
        location, *path = mistake["loc"] or ("body",)
        if location not in get_args(Location):  # an endpoint has raised it
            location, path = "body", [location, *path]
        mistakes.append(
            InvalidField(
                location=cast(Location, location),
                pointer=_pointer(path),
                detail=shorten(mistake["msg"]),
            )
        )
    return mistakes


def _pointer(path: Iterable[int | str]) -> str:
    parts = (shorten(str(part)).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{part}" for part in parts)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # not a registered status
        return "Error"
