"""Examples of the API: requests and answers that the tests have kept.

tests/exchanges.py keeps them in `FILE` as `make test` or `make docs` runs the tests.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from checks.api import Operation, operations
from checks.repository import Repository
from checks.results import NotChecked

FILE = "outputs/exchanges.json"


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
        """Return whether this operation was asked."""
        parts = re.split(r"\{\w+\}", operation.path)
        pattern = "[^/]+".join(map(re.escape, parts))
        path = self.path.partition("?")[0]
        is_path = re.fullmatch(pattern, path) is not None
        return is_path and self.method == operation.method.upper()


def read_exchanges(repository: Repository) -> list[Exchange]:
    """Return what the tests have kept. Raises NotChecked where they have not run."""
    if not repository.has(FILE):
        raise NotChecked("The tests have kept no examples yet: `make test`.")
    found = repository.json(FILE)
    return [Exchange(**{**one, "headers": tuple(one["headers"])}) for one in found]


def find_missing(exchanges: list[Exchange]) -> Iterator[str]:
    """Yield which operations lack an example of a success or of an error."""
    for operation in operations():
        statuses = {one.status // 100 for one in exchanges if one.is_of(operation)}
        for kind, found in (("success", {2}), ("error", {4, 5})):
            if not statuses & found:
                yield (
                    f"{operation.name} has no example of {kind}: let a test in "
                    "tests/app get one."
                )
