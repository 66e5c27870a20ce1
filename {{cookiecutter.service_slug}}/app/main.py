"""Assembles the application; `app.server` runs it."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app import api, problems, traces
from app.limits import LoadShedding
from app.routing import Shortcut, contract_routes
from app.service import Service
from app.watch import Watch

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def create_app(service: Service) -> FastAPI:
    """The ASGI application around a service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    about = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    app = FastAPI(
        title=about["name"],
        version=about["version"],
        description=about["description"],
        lifespan=lifespan,
        telemetry=traces.telemetry(about["name"], about["version"]),
        redirect_slashes=False,
        max_body_size=service.settings.max_body_bytes,
    )
    app.state.service = service
    problems.install(app)
    app.include_router(api.router(service))
    routes = list(iter_route_contexts(app.routes))
    paths = frozenset(str(route.path) for route in routes)
    fast = contract_routes(routes)

    # Not with add_middleware: that would leave the answer to a crash outside.
    stack = app.build_middleware_stack()
    # FastAPI names a span while it looks for the route, and middleware that was added
    # wants every request.
    if not traces.wanted() and not app.user_middleware:
        stack = Shortcut(stack, fast)
    stack = LoadShedding(stack, service.settings.max_concurrency, service.metrics)
    app.middleware_stack = Watch(stack, service, paths)
    return app
