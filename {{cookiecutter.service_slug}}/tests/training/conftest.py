"""Fixtures: configurations of the pipeline."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.testing import ROOT
from tests.conftest import compose_config
from training.values import CONFIG_DIR, Config

CONF = Path(CONFIG_DIR)
CHOICES = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))]

Compose = Callable[..., Config]

OWN = ("adopt", "app", "serving", "training")


def imports(file: Path) -> Iterator[Path]:
    """The files of the service that a file imports itself."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Import(names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(str(module), names):
                modules = [module, *(f"{module}.{alias.name}" for alias in names)]
            case _:
                continue
        for module in modules:
            parts = module.split(".")
            if parts[0] not in OWN:
                continue
            for depth in range(1, len(parts) + 1):
                path = ROOT.joinpath(*parts[:depth])
                yield path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached(*files: Path) -> set[Path]:
    """The files, and all that they import, directly or not."""
    found: set[Path] = set()
    waiting = [file for file in files if file.exists()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [path for path in imports(file) if path.exists()]
    return found


def need(*choices: str) -> None:
    """Skip the test if `training/conf` no longer has what a choice names."""
    for choice in choices:
        group, _, name = choice.partition("=")
        if not (CONF / group).is_dir():
            continue  # a value
        if choice not in CHOICES:
            pytest.skip(f"training/conf has no {choice}")
        text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
        need(*map("=".join, re.findall(r"- override /(\w+): (\w+)", text)))


@pytest.fixture
def configure(tmp_path: Path) -> Compose:
    """`configure("data=csv", …)`: a configuration that writes into a directory."""

    def compose(*chosen: str) -> Config:
        need(*chosen)
        return compose_config(tmp_path, "corrections=null", *chosen)

    return compose
