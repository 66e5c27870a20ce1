"""The requests: rows of data/test.csv and the golden example of the model.

They hold what the contract makes of a row, so that the bare limit, which knows no
contract, gives the same answers.
"""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotated_types import MaxLen
from pydantic import ValidationError

from app.contract import MAX_INSTANCES, Instance
from app.model import SIDECAR_FILE, Sidecar
from bench.serving import ROOT, BenchError

ROWS = ROOT / "data" / "test.csv"

Row = dict[str, Any]


def encoded(instances: Sequence[Row]) -> bytes:
    """The body of a request."""
    content = {"instances": instances}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class Bodies:
    """What is asked. Raises BenchError if rows or model are not there."""

    def __init__(self, model_dir: Path, rows: Path = ROWS) -> None:
        self._golden = _golden(model_dir / SIDECAR_FILE)
        self._rows = _rows(rows)

    def golden(self) -> bytes:
        """The golden example alone."""
        return encoded([self._golden])

    def batches(self, size: int, count: int) -> list[bytes]:
        """Bodies of `size` rows each."""
        chance = random.Random(0)
        return [encoded(chance.choices(self._rows, k=size)) for _ in range(count)]

    def longest(self) -> int:
        """Characters that every text of an instance may have; 0 if it has no text."""
        return min((_longest(name) for name in self._texts()), default=0)

    def long(self, length: int) -> bytes:
        """The golden example with texts of `length` characters."""
        return encoded([self._grown(length)])

    def largest(self, limit: int) -> bytes:
        """As many instances as may be, with texts that fill a body of `limit` bytes."""
        room = limit - len(encoded([self._grown(0)] * MAX_INSTANCES))
        length = room // MAX_INSTANCES // max(1, len(self._texts()))
        grown = self._grown(max(1, min(length, self.longest())))
        count = MAX_INSTANCES
        while count > 1 and len(encoded([grown] * count)) > limit:
            count -= 1
        return encoded([grown] * count)

    def _texts(self) -> list[str]:
        return [name for name, value in self._golden.items() if isinstance(value, str)]

    def _grown(self, length: int) -> Row:
        return self._golden | {
            name: _repeated(self._golden[name], length) for name in self._texts()
        }


def _repeated(text: str, length: int) -> str:
    words = f"{text} " * (length // len(text) + 1)
    return words[:length].strip()


def _longest(name: str) -> int:
    limits = [m for m in Instance.model_fields[name].metadata if isinstance(m, MaxLen)]
    return min((limit.max_length for limit in limits), default=10_000)


def _golden(path: Path) -> Row:
    try:
        sidecar = Sidecar.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise BenchError(
            f"{path} cannot be used. Train the model (make train) or fetch it "
            "(make pull)."
        ) from None
    return sidecar.golden_instance.model_dump(mode="json")


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_row(row) for row in csv.DictReader(file)]
    except (OSError, ValidationError) as error:
        raise BenchError(
            f"{path} cannot be used ({type(error).__name__}). "
            "Make it (make train) or fetch it (make pull)."
        ) from None


def _row(columns: dict[str, str]) -> Row:
    fields = {name: columns[name] for name in Instance.model_fields if name in columns}
    return Instance.model_validate_strings(fields).model_dump(mode="json")
