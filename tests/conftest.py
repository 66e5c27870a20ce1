"""The `bake` fixture: a test says which service it wants and what it should do."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parent.parent
BODY = ROOT / "{{cookiecutter.service_slug}}"

MOST_FILES = 136  # in a service: CONTRIBUTING.md says why

# One environment for all baked services: they lock the same dependencies.
SHARED = ROOT / "build" / "environment"

# Git must neither need nor heed the configuration of whoever runs the tests.
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@localhost",
}
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    # A variable of the outer run must not reach into the service.
    if name not in {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH"}
} | GIT
# Compiling once pays: the tests start hundreds of processes.
ENVIRONMENT["UV_COMPILE_BYTECODE"] = "1"


def run(
    *command: str, cwd: Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command; when it fails, the test fails with what the command printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRONMENT | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    if check and done.returncode != 0:
        pytest.fail(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}"
        )
    return done


@dataclass(frozen=True)
class Service:
    """A baked service."""

    path: Path

    def read(self, name: str) -> str:
        """The text of one of its files."""
        return (self.path / name).read_text(encoding="utf-8")

    def files(self) -> set[str]:
        """Its files, relative, without Git's and what is made at run time."""
        return set(run("git", "ls-files", cwd=self.path).stdout.splitlines())

    def install(self) -> "Service":
        """Give it the shared environment, brought up to date by `make setup`."""
        SHARED.mkdir(parents=True, exist_ok=True)
        (self.path / ".venv").symlink_to(SHARED, target_is_directory=True)
        lock = SHARED.with_name("uv.lock")
        if lock.exists():
            (self.path / "uv.lock").write_bytes(lock.read_bytes())
        # Its scripts must name where it is and not the link of the service at hand.
        self.make("setup", UV_PROJECT_ENVIRONMENT=str(SHARED))
        lock.write_bytes((self.path / "uv.lock").read_bytes())
        return self

    def make(
        self, *goals: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Call a verb of its Makefile."""
        command = ("make", "--no-print-directory", *goals)
        return run(*command, cwd=self.path, check=check, **variables)

    def run(
        self, *command: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of its environment, as after `source .venv/bin/activate`."""
        path = f"{self.path / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        variables = {"PATH": path} | variables
        return run(*command, cwd=self.path, check=check, **variables)


Bake = Callable[..., Service]


def bake_into(
    directory: Path,
    answers: Mapping[str, str] = MappingProxyType({}),
    check: bool = True,
    template: Path = ROOT,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Generate a service in a directory, as `cookiecutter --no-input` does."""
    overrides = [f"{question}={answer}" for question, answer in answers.items()]
    return run(
        sys.executable,
        "-m",
        "cookiecutter",
        str(template),
        "--no-input",
        "--output-dir",
        str(directory),
        *overrides,
        cwd=directory,
        check=check,
        **variables,
    )


@pytest.fixture
def bake(tmp_path: Path) -> Bake:
    """`bake(service_name="…")` generates a service of its own for the test."""

    def generate(**answers: str) -> Service:
        bake_into(tmp_path, answers)
        (path,) = (path.parent for path in tmp_path.glob("*/pyproject.toml"))
        return Service(path)

    return generate


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The default service, installed; for tests that change none of its files."""
    directory = tmp_path_factory.mktemp("default")
    bake_into(directory, {})
    yield Service(directory / "intent-service").install()


def copy(service: Service, directory: Path) -> Service:
    """The same service in another directory, with the same environment."""
    target = directory / service.path.name
    shutil.copytree(service.path, target, symlinks=True)
    return Service(target)


@pytest.fixture(scope="session")
def trained(default: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service whose pipeline has run and whose results are committed."""
    service = copy(default, tmp_path_factory.mktemp("trained"))
    start = time.monotonic()
    output = service.make("train").stdout
    print(f"make train took {time.monotonic() - start:.0f} s")
    assert "Running stage 'export'" in output
    run("git", "add", "--all", cwd=service.path)
    run("git", "commit", "--quiet", "--message", "Train", cwd=service.path)
    return service


@pytest.fixture
def tokens() -> Iterator[str]:
    """The address at which a job of GitHub gets its OpenID Connect tokens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"] == "bearer request-token"
            self.send_response(200)
            self.end_headers()
            audience = self.path.partition("audience=")[2]
            self.wfile.write(json.dumps({"value": f"for-{audience}"}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/?x=y"
    server.shutdown()
    server.server_close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that passing tests print: pytest would keep them to itself."""
    for report in terminalreporter.getreports("passed"):
        if report.capstdout:
            terminalreporter.write_line(report.capstdout.strip())
