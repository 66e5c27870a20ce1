"""What the code of the service says about itself: operations, settings, metrics."""

import json
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi.routing import iter_route_contexts

from app.main import create_app
from app.settings import Settings
from serving.build import Application

METHODS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Operation:
    """One operation of the OpenAPI document."""

    path: str
    method: str
    description: dict[str, Any]

    @property
    def name(self) -> str:
        """Return method and path, as `POST /v1/predict`."""
        return f"{self.method.upper()} {self.path}"


@cache
def application() -> Application:
    """Return the service with its default settings; it is not started."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
        if not field.is_required()
    }
    logging.disable(logging.INFO)  # it says at the start which routes are fast
    app = create_app(Settings(**defaults))
    logging.disable(logging.NOTSET)
    return app


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the service."""
    return application().openapi()


def openapi_text() -> str:
    """Return the OpenAPI document as docs/openapi.json has it."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


def operations() -> list[Operation]:
    """Return the operations of the service, without those of the engine."""
    of_the_engine = {
        str(route.path)
        for route in iter_route_contexts(application().routes)
        if getattr(route.endpoint, "__module__", "").startswith("serving.")
    }
    return [
        Operation(path, method, operation)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in METHODS and path not in of_the_engine
    ]


def required_settings() -> list[str]:
    """Return the settings that have no default."""
    fields = Settings.model_fields.items()
    return [name.upper() for name, field in fields if field.is_required()]
