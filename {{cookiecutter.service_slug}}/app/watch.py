"""The middleware around everything: no answer goes out uncounted or without an id."""

import random
import re
from collections.abc import Awaitable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import traces
from app.logs import Fields, about_request
from app.service import Service

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
REQUEST_ID = b"x-request-id"

_is_sane_id = re.compile(rb"[!-~]{1,128}").fullmatch


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
        about = self._about(scope)
        about_request.set(about)
        id_header = (REQUEST_ID, about["request_id"].encode("ascii"))

        # It hands the awaitable on: a coroutine of its own would cost as much again.
        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            return send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            seconds = perf_counter() - start
            method = scope["method"] if scope["method"] in METHODS else "other"
            outcome = (self._route(scope), method, status)
            about["model_version"] = self._service.model_version
            self._service.metrics.answered(outcome, seconds)
            self._service.log.answered(outcome, seconds, about)

    def _about(self, scope: Scope) -> Fields:
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID)
        if given is not None and _is_sane_id(given):
            about = {"request_id": given.decode("ascii")}
        else:
            about = {"request_id": f"{random.getrandbits(128):032x}"}
        traceparent = headers.get(b"traceparent")
        if self._traced or traceparent is not None:
            about |= traces.about(traceparent)
        return about

    def _route(self, scope: Scope) -> str:
        path: str = scope["path"]
        if path in self._paths:
            return path
        route = scope.get("route")
        return route.path if route is not None else "unmatched"
