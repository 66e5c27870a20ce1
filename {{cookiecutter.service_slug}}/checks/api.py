"""What the code of the service says about itself: operations, settings, metrics."""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.main import create_app
from app.settings import Settings

METHODS = ("get", "put", "post", "delete", "patch")
# What the engine serves for machines.
OF_THE_ENGINE = ("/livez", "/readyz", "/metrics", "/healthz")


@dataclass(frozen=True)
class Operation:
    """One operation of the OpenAPI document."""

    path: str
    method: str
    description: dict[str, Any]


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the service, which is not started."""
    logging.disable(logging.INFO)  # it says at the start which routes are fast
    document: dict[str, Any] = create_app(Settings()).openapi()
    logging.disable(logging.NOTSET)
    return document


def operations() -> list[Operation]:
    """Return the operations of the service, without those of the engine."""
    return [
        Operation(path, method, operation)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in METHODS and path not in OF_THE_ENGINE
    ]


def required_settings() -> list[str]:
    """Return the settings that have no default."""
    fields = Settings.model_fields.items()
    return [name.upper() for name, field in fields if field.is_required()]
