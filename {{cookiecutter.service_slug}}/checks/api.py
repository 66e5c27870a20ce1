"""The API of the service: its operations, its settings, and examples of its use.

The examples are requests and answers of the tests. tests/exchanges.py keeps them in
`EXCHANGES` as `make test` or `make docs` runs the tests.
"""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi.routing import iter_route_contexts

from app.main import create_app
from app.settings import Settings
from checks.repository import Repository
from checks.results import NotChecked
from serving.build import Application

METHODS = ("get", "put", "post", "delete", "patch")
EXCHANGES = "outputs/exchanges.json"


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


@dataclass(frozen=True)
class Exchange:
    """A request of the tests, and its answer; the bodies are texts."""

    method: str
    path: str
    headers: tuple[str, ...]
    request: str
    status: int
    answer: str

    def is_of(self, operation: Operation) -> bool:
        """Return whether the request is one of an operation."""
        parts = re.split(r"\{\w+\}", operation.path)
        pattern = "[^/]+".join(map(re.escape, parts))
        path = self.path.partition("?")[0]
        is_path = re.fullmatch(pattern, path) is not None
        return is_path and self.method == operation.method.upper()


def read_exchanges(repository: Repository) -> list[Exchange]:
    """Return what the tests have kept. Raises NotChecked where they have not run."""
    if not repository.has(EXCHANGES):
        raise NotChecked("The tests have kept no examples yet: `make test`.")
    found = repository.json(EXCHANGES)
    return [Exchange(**{**one, "headers": tuple(one["headers"])}) for one in found]


def find_missing(exchanges: list[Exchange]) -> Iterator[str]:
    """Yield which operations lack an example of a success or of an error."""
    for operation in operations():
        statuses = {one.status // 100 for one in exchanges if one.is_of(operation)}
        for kind, found in (("success", {2}), ("error", {4, 5})):
            if not statuses & found:
                yield (
                    f"{operation.name} has no example of {kind}: let a test in "
                    "tests/app get one. (Without an API key, each path but the open "
                    "ones answers 401: see `guarded` in tests/app/test_auth.py.)"
                )
