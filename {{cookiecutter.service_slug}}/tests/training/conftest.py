"""Fixtures: configurations of the pipeline."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import compose_config
from training.values import CONFIG_DIR, Config

CONF = Path(CONFIG_DIR)
CHOICES = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml"))]

Compose = Callable[..., Config]


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
