"""Assembles the application; `app.server` runs it."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app import api, problems, traces
from app.limits import LoadShedding
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
    )
    app.state.service = service
    app.add_middleware(
        LoadShedding,
        limit=service.settings.max_concurrency,
        metrics=service.metrics,
    )
    problems.install(app)
    app.include_router(api.router(service))
    paths = frozenset(str(route.path) for route in iter_route_contexts(app.routes))
    # Not with add_middleware: that would leave the answer to a crash outside.
    app.middleware_stack = Watch(app.build_middleware_stack(), service, paths)
    return app
