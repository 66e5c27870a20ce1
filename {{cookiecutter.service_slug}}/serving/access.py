"""The outermost layer: give every request an id, count it and log it."""

import re
from asyncio import CancelledError
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import Any
from urllib.parse import quote

from fastapi.routing import RouteContext
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import traces
from serving.problems import CRASH, TextError, is_text_error, problem_response
from serving.requests import (
    ROUTE_PATH,
    TENANT,
    Ids,
    Outcome,
    current_ids,
    make_id,
)
from serving.service import Service

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
REQUEST_ID = b"x-request-id"
UNMATCHED = "unmatched"
# What Starlette writes into the scope when it has found the route.
MATCHED = frozenset({"route", "endpoint", "path_params"})

# Visible ASCII that JSON does not escape.
_is_valid_id = re.compile(rb"[!#-\[\]-~]{1,128}").fullmatch


class AccessLayer:
    """ASGI middleware that gives each request an id, counts, times and logs it.

    A request that is rejected before routing still counts for its route. An exception
    that no other layer has handled becomes a problem document here.
    """

    def __init__(
        self, app: ASGIApp, service: Service[Any], paths: "RoutePaths"
    ) -> None:
        self._app = app
        self._service = service
        self._log = service.log
        self._metrics = service.metrics
        self._paths = paths
        self._traced = traces.enabled()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        start = perf_counter()
        status = 0
        text: TextError | None = None
        headers = dict(reversed(scope["headers"]))  # the first of two wins
        given = headers.get(REQUEST_ID)
        if given is not None and _is_valid_id(given):
            request_id = given.decode("ascii")
        else:
            request_id = make_id()
        id_header = (REQUEST_ID, request_id.encode("ascii"))
        trace_id = None
        if self._traced or b"traceparent" in headers:
            trace_id = traces.trace_id(headers.get(b"traceparent"))
        ids = Ids(request_id, trace_id)
        current_ids.set(ids)

        # Not `async def`: a second coroutine would double the cost of sending.
        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status, text
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
                if status >= 400 and is_text_error(message):
                    text = TextError(message)
                    return text.hold()
            elif text is not None:
                return text.add(message, scope, receive, send)
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except HTTPException as error:
            if status and not (text and text.is_held):
                raise
            text = None
            await problem_response(error)(scope, receive, send_with_id)
        except (Exception, CancelledError):  # also of a task that a handler awaited
            if not status or (text and text.is_held):
                text = None
                await problem_response(CRASH)(scope, receive, send_with_id)
            raise  # the server logs the traceback
        finally:
            seconds = perf_counter() - start
            method = scope["method"]
            outcome = Outcome(
                self._paths.of(scope),
                method if method in METHODS else "other",
                status or 500,
            )
            tenant = scope.get(TENANT)
            self._metrics.record_response(outcome, seconds, tenant)
            version = self._service.model_version
            self._log.record_response(outcome, seconds, ids, version, tenant)


class RoutePaths:
    """The bounded set of route paths that metrics and logs use."""

    def __init__(self, routes: Iterable[RouteContext]) -> None:
        self._fixed: set[str] = set()
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for route in routes:
            path = str(route.path) or "/"  # a mount at the root has none
            if isinstance(route.original_route, Mount) or "{" in path:
                self._patterns.append((route.path_regex, path))
            else:
                self._fixed.add(path)

    def of(self, scope: Scope) -> str:
        """Return the path of the matching route, such as `/orders/{number}`.

        Return `UNMATCHED` if no route matches.
        """
        path: str = scope["path"]
        if path in self._fixed:
            return path
        for pattern, name in self._patterns:
            if pattern.match(path):
                return name
        route = scope.get("route")  # added after the start
        return getattr(route, "path", UNMATCHED)


class RemovePrefix:
    """ASGI middleware that removes ROOT_PATH where the proxy has not removed it.

    All further layers see the paths of the routes. A path of a route that begins with
    the prefix stays as it is: with ROOT_PATH=/v1, the proxy has made `/v1/model` of
    `/v1/v1/model`.
    """

    def __init__(self, app: ASGIApp, prefix: str, paths: RoutePaths) -> None:
        self._app = app
        self._prefix = prefix
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, prefix = scope.get("path", ""), self._prefix
        is_prefixed = path == prefix or path.startswith(f"{prefix}/")
        if is_prefixed and not self._paths.of(scope).startswith(prefix):
            scope["path"] = path.removeprefix(prefix) or "/"
            # As many segments, as they may be percent-encoded.
            segments = prefix.count("/") + 1
            raw_path = (scope.get("raw_path") or b"").split(b"/", segments)
            scope["raw_path"] = b"/" + b"".join(raw_path[segments:])
        await self._app(scope, receive, send)


class AddPrefix:
    """ASGI middleware that adds ROOT_PATH to the path, as the ASGI specification asks.

    Starlette removes it from each path that begins with it, and would otherwise do so
    with `/v1/model` for ROOT_PATH=/v1:
    https://github.com/Kludex/starlette/blob/main/starlette/_utils.py
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "path" not in scope:
            await self._app(scope, receive, send)
            return
        path, raw_path = scope["path"], scope.get("raw_path") or b""
        inner = {
            **scope,
            "path": self._prefix + path,
            "raw_path": quote(self._prefix).encode("ascii") + raw_path,
            ROUTE_PATH: path,
        }

        # Not `async def`: as in AccessLayer.
        def send_with_match(message: Message) -> Awaitable[None]:
            scope.update({key: inner[key] for key in MATCHED & inner.keys()})
            return send(message)

        await self._app(inner, receive, send_with_match)
