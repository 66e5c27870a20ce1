"""Environments: one for the service, for training it, and for each other framework."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.serving import environment

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOME = ROOT / "build" / "benchmarks"
UV = (sys.executable, "-m", "uv")
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


class CommandError(Exception):
    """A command failed; the message has the end of what it printed."""


def run(
    *command: str, cwd: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a command and give what it printed. Raises CommandError if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(GIT | {"UV_COMPILE_BYTECODE": "1"} | dict(variables)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        shown = " ".join(command[:6])
        raise CommandError(
            f"{shown} ended with {done.returncode}:\n{done.stdout[-2000:].strip()}"
        )
    return done.stdout


def sync(service: Path, name: str, *arguments: str) -> Path:
    """Make the environment of a service by `uv sync`, and return its directory."""
    target = HOME / name
    run(
        *(*UV, "sync", "--quiet", "--python", sys.executable, *arguments),
        cwd=service,
        variables={"UV_PROJECT_ENVIRONMENT": str(target)},
    )
    return target


def install(name: str, python: str | None) -> Path:
    """Make the environment of a framework from its requirements; return its directory.

    It is made afresh, without releases newer than what the template was proven with.
    """
    target = HOME / name
    wanted = python or sys.executable
    venv = (*UV, "venv", "--quiet", "--clear", "--python", wanted)
    run(*venv, str(target), cwd=ROOT)
    run(
        *(*UV, "pip", "install", "--quiet", "--exclude-newer", _newest()),
        *("--python", str(target / "bin" / "python")),
        *("--requirements", str(HERE / f"{name}.txt")),
        cwd=ROOT,
    )
    return target


def variables(target: Path) -> dict[str, str]:
    """Return what `source bin/activate` would set."""
    return {"PATH": f"{target / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def versions(target: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of Python and of some distributions in an environment."""
    python = target / "bin" / "python"
    said = run(str(python), "--version", cwd=ROOT).split()[1]
    listed = run(
        *(*UV, "pip", "list", "--quiet", "--format", "json", "--python", str(python)),
        cwd=ROOT,
    )
    found = {each["name"]: each["version"] for each in json.loads(listed)}
    return {"python": said} | {name: found[name] for name in names if name in found}


def size(target: Path) -> int:
    """Bytes of all files in an environment."""
    paths = (path for path in target.rglob("*") if not path.is_symlink())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _newest() -> str:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    newest: str = settings["tool"]["uv"]["exclude-newer"]
    return newest
