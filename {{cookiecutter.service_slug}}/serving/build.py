"""Build the application: the layers that each request passes, your code among them."""

import importlib
import importlib.util
import logging
import tomllib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import docs, health, traces
from serving.access import AccessLayer, AddPrefix, RemovePrefix, RoutePaths
from serving.admission import AdmissionLayer
from serving.methods import MethodLayer
from serving.problems import answer_problems, document_problems
from serving.routing import FastPath, build_error_handler, plan_routes, prepare_routes
from serving.service import Service

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

logger = logging.getLogger(__name__)


class Project(NamedTuple):
    """What pyproject.toml says of the service."""

    name: str
    version: str
    description: str


def read_project() -> Project:
    """Return name, version and description of the service."""
    about = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return Project(about["name"], about["version"], about["description"])


def build_app(
    service: Service[Any],
    routers: Sequence[APIRouter] = (),
    middleware: Sequence[Middleware] = (),
) -> "Application":
    """Build the application around a service, with your routers and middleware.

    The result is an ordinary FastAPI application. Until it starts, you may add routers,
    routes, middleware, exception handlers and mounted applications to it.

        app = build_app(service, [router], [Middleware(GZipMiddleware)])
    """
    project = read_project()
    telemetry = traces.telemetry(project.name, project.version)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        traces.shut_down(telemetry)
        service.stop()

    app = Application(
        title=project.name,
        version=project.version,
        description=project.description,
        lifespan=lifespan,
        telemetry=telemetry,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        middleware=middleware,
    )
    app.state.service = service
    app.root_path = service.settings.root_path  # the argument is deprecated
    docs.add_page(app)
    app.include_router(health.router(service.lifecycle, service.metrics))
    for router in routers:
        app.include_router(router)
    return app


class Application(FastAPI):
    """A FastAPI application wrapped in the layers of the engine."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Functions that edit the OpenAPI document in place.
        self.document_edits: list[Callable[[dict[str, Any]], None]] = [
            document_problems,
            restore_nulls,
        ]
        self.start_notes: list[str] = []  # lines to log at the start
        self._is_traced = traces.enabled()
        answer_problems(self)

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """Include a router. Its routes get the same guarantees as all others."""
        prepare_routes(router.routes)
        super().include_router(router, **options)

    def add_option(self, name: str, *contract: type[BaseModel]) -> None:
        """Let an option of the template add its endpoints, if it was chosen.

        An option is a package; its module `plugin` has the function `add`, which takes
        the application and the contract. Raises SettingsError.
        """
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(f"{name}.plugin").add(self, *contract)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. Without traces, FastAPI's own layers have nothing to do:

        https://github.com/fastapi/fastapi/blob/master/fastapi/applications.py
        """
        stack = self.middleware_stack
        if scope["type"] != "http" or stack is None or self._is_traced:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        if self.root_path:
            scope["root_path"] = self.root_path
        await stack(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            for edit in self.document_edits:
                edit(document)
        return self.openapi_schema or {}

    def build_middleware_stack(self) -> ASGIApp:
        """Build the stack once, when the application starts. A request passes:

        1. `AccessLayer`, which gives it an id, counts it and logs it;
        2. `AdmissionLayer`, which limits requests, bytes and time on every route;
        3. your middleware, in the order of the list, and the API keys;
        4. `FastPath`, which calls the handler directly if the route allows it;
        5. `MethodLayer`, which serves HEAD and OPTIONS on all routes;
        6. FastAPI, for all other routes.

        With ROOT_PATH, `RemovePrefix` comes before 1 and `AddPrefix` before 6.
        """
        service: Service[Any] = self.state.service
        docs.redirect_root(self)  # last, so that a route of yours comes first
        prepare_routes(self.router.routes)
        routes = list(iter_route_contexts(self.routes))
        # FastAPI names a span while it matches the route.
        plan = plan_routes(routes, "traces are on" if self._is_traced else "")
        for note in (*self.start_notes, str(plan)):
            logger.info("%s", note)

        sockets = [
            str(route.path)
            for route in routes
            if isinstance(route.original_route, WebSocketRoute)
        ]
        if sockets:
            logger.warning(
                "The server has no websockets: %s can be reached in tests only. "
                "Use server-sent events.",
                ", ".join(sockets),
            )

        paths, prefix, stack = RoutePaths(routes), self.root_path, self._fastapi()
        if prefix:
            stack = AddPrefix(stack, prefix)
        stack = MethodLayer(stack, routes)
        stack = FastPath(stack, plan.fast, build_error_handler(self))
        for layer, args, options in reversed(self.user_middleware):
            stack = layer(stack, *args, **options)
        stack = AdmissionLayer(stack, service.admission)
        stack = AccessLayer(stack, service, paths)
        return RemovePrefix(stack, prefix, paths) if prefix else stack

    def _fastapi(self) -> ASGIApp:
        """Return FastAPI's stack without your middleware, which wraps `FastPath`.

        FastAPI puts `user_middleware` around its router:
        https://github.com/fastapi/fastapi/blob/master/fastapi/applications.py
        """
        yours, self.user_middleware = self.user_middleware, []
        try:
            return super().build_middleware_stack()
        finally:
            self.user_middleware = yours


def restore_nulls(document: dict[str, Any]) -> None:
    """Give each example the required fields that are None, which FastAPI leaves out."""
    for schema in document.get("components", {}).get("schemas", {}).values():
        for example in schema.get("examples", []):
            if isinstance(example, dict):
                for name in schema.get("required", []):
                    example.setdefault(name, None)
