"""The middleware around everything: no answer goes out uncounted."""

from collections.abc import Awaitable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.service import Service

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)


class Watch:
    """ASGI middleware: counts and times each request.

    `paths` are those of the routes. A request that was turned away before routing
    belongs to its route all the same.
    """

    def __init__(self, app: ASGIApp, service: Service, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = service.metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        start = perf_counter()
        status = 500  # if nothing is sent, the server says so in our place

        # It hands the awaitable on: a coroutine of its own would cost as much again.
        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            seconds = perf_counter() - start
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.answered(self._route(scope), method, status, seconds)

    def _route(self, scope: Scope) -> str:
        path: str = scope["path"]
        if path in self._paths:
            return path
        route = scope.get("route")
        return route.path if route is not None else "unmatched"
