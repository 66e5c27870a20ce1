"""HEAD and OPTIONS, which clients and monitors send to routes that declare neither."""

import re
from collections.abc import Iterable

from fastapi import Response
from fastapi.routing import RouteContext
from starlette.types import ASGIApp, Receive, Scope, Send


class MethodLayer:
    """ASGI middleware: HEAD is GET without a body, OPTIONS names the methods.

    A route that declares one of them keeps it, and so do mounted applications.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[RouteContext]) -> None:
        self._app = app
        self._methods: list[tuple[re.Pattern[str], frozenset[str]]] = [
            (route.path_regex, frozenset(methods))
            for route in routes
            if (methods := getattr(route, "methods", None))
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method not in ("HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        methods = self._find_methods(scope["path"])
        if method == "OPTIONS" and methods and method not in methods:
            names = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
            allowed = Response(
                status_code=204, headers={"Allow": ", ".join(sorted(names))}
            )
            await allowed(scope, receive, send)
            return
        if method == "HEAD" and "GET" in methods and method not in methods:
            # The server drops the body, because the method is HEAD in its own scope.
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    def _find_methods(self, path: str) -> set[str]:
        """Return the methods of a path; those of all paths for `*`."""
        return {
            method
            for pattern, methods in self._methods
            if path == "*" or pattern.match(path)
            for method in methods
        }
