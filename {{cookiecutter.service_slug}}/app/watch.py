"""The middleware around everything: no answer goes out uncounted or without an id."""

import re
from collections.abc import Awaitable
from random import getrandbits
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import traces
from app.logs import Ids, ids_of_request
from app.service import Service

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
REQUEST_ID = b"x-request-id"

# Printable, and nothing that JSON would escape.
_is_sane = re.compile(rb"[!#-\[\]-~]{1,128}").fullmatch


class Watch:
    """ASGI middleware: gives each request an id, counts it, times it and logs it.

    `paths` are those of the routes. A request that was turned away before routing
    belongs to its route all the same.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._paths = paths
        self._traced = traces.wanted()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        start = perf_counter()
        status = 500  # if nothing is sent, the server says so in our place
        headers = dict(reversed(scope["headers"]))  # of two of a name, the first counts
        request_id = headers.get(REQUEST_ID)
        if request_id is None or not _is_sane(request_id):
            request_id = b"%032x" % getrandbits(128)
        trace_id = None
        if self._traced or b"traceparent" in headers:
            trace_id = traces.trace_id(headers.get(b"traceparent"))
        ids: Ids = (request_id.decode("ascii"), trace_id)
        ids_of_request.set(ids)

        # It hands the awaitable on: a coroutine of its own would cost as much again.
        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (REQUEST_ID, request_id),
                ]
            return send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            seconds = perf_counter() - start
            path, method = scope["path"], scope["method"]
            outcome = (
                path if path in self._paths else template(scope),
                method if method in METHODS else "other",
                status,
            )
            service = self._service
            service.metrics.answered(outcome, seconds)
            service.log.answered(outcome, seconds, ids, service.model_version)


def template(scope: Scope) -> str:
    """The path of the route that answered, with the names of its parameters."""
    route = scope.get("route")
    return route.path if route is not None else "unmatched"
