"""Assembles the application; `app.server` runs it."""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from app import api, problems
from app.limits import LoadShedding
from app.service import Service

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
        redirect_slashes=False,
    )
    app.state.settings = service.settings
    app.add_middleware(LoadShedding, limit=service.settings.max_concurrency)
    problems.install(app)
    app.include_router(api.router(service))
    return app
