"""Runs pytest for many services, each in a fork of one process that has its imports.

A program for the environment of the services: `python forks.py SERVICE`. To start
pytest and to import what a service needs takes longer than most tests do. So this
process imports once what the sources of the service name, and none of its own modules.
For each line of its input, a JSON object, it forks. The fork runs pytest in the
directory `path` with the `arguments` and writes to the file `output`; the answer is a
line with the exit code. A `module` of the service is run in place of pytest.

What the fixture `trained` makes is left in the file `kept` of the request, and taken
from there once it is there: it is for tests that only read it.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import pickle
import runpy
import sys
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest


def imported(service: Path) -> Iterator[str]:
    """The modules that the sources import and that are not the service's own."""
    own = {path.name.removesuffix(".py") for path in service.iterdir()}
    for source in service.glob("*/**/*.py"):
        if ".venv" in source.parts:
            continue
        for node in ast.walk(ast.parse(source.read_bytes())):
            match node:
                case ast.Import(names):
                    found = [alias.name for alias in names]
                case ast.ImportFrom(str(module)):
                    found = [module]
                case _:
                    continue
            yield from (name for name in found if name.split(".")[0] not in own)


class Keep:
    """A plugin that leaves in a file what `trained` made."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        made = yield
        if fixturedef.argname == "trained":
            self._file.write_bytes(pickle.dumps(made))
        return made


class Give:
    """A plugin that takes it from there."""

    def __init__(self, file: Path) -> None:
        self._kept = file.read_bytes()

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: Any
    ) -> object:
        if fixturedef.argname != "trained":
            return None
        kept = pickle.loads(self._kept)
        fixturedef.cached_result = (kept, fixturedef.cache_key(request), None)
        return kept


def run(
    path: str, arguments: list[str], output: str, kept: str = "", module: str = ""
) -> int:
    """Run pytest, or a module of the service, in a fork; returns its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(path)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        run_here = run_module if module else run_pytest
        code = run_here(module or kept, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_pytest(kept: str, arguments: list[str]) -> int:
    """Run pytest; returns its exit code."""
    file = Path(kept)
    plugins = [Give(file) if file.exists() else Keep(file)] if kept else []
    # The plugins are here already; what they assert is none of the tests' business.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*arguments, *quiet], plugins=plugins))


def run_module(module: str, arguments: list[str]) -> int:
    """Run a module of the service as a program; returns its exit code."""
    sys.path.insert(0, os.getcwd())
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.path.pop(0)  # the directory of this file
    for module in sorted(set(imported(Path(sys.argv[1])))):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # pytest collects garbage ten times: what is imported here is none
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
