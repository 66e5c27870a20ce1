"""Reading and writing of what passes between the stages.

A file is written whole or not at all: whatever goes wrong, the earlier one stays.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from training.stage import PipelineError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def write_text(path: Path, content: str) -> None:
    """Replace the file in one step, in UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Replace the CSV file in one step."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the JSON file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read what an earlier stage wrote. Raises PipelineError if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is not there: an earlier stage writes it. Run them all: make train"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON that an earlier stage wrote."""
    content: dict[str, Any] = json.loads(read_bytes(path))
    return content


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows of the contract that an earlier stage wrote; all columns are text."""
    # keep_default_na would turn the sentence "null" into a missing value.
    return pd.read_csv(io.BytesIO(read_bytes(path)), dtype=str, keep_default_na=False)
