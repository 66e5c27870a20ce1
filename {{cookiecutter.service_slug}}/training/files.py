"""Read and write the files that pass between the stages.

Writes are atomic: if one fails, the earlier file stays.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from training.stage import PipelineError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def write_text(path: Path, content: str) -> None:
    """Replace a text file (UTF-8) atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_bytes(path: Path) -> bytes:
    """Read the output of an earlier stage. Raises PipelineError if it is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is missing: an earlier stage writes it. Run all stages: make train"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON output of an earlier stage. Raises PipelineError."""
    content: dict[str, Any] = json.loads(read_bytes(path))
    return content


def hash_content(content: bytes) -> str:
    """Return the hash that dvc.lock has of a file with this content (MD5)."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
