"""The `bake` fixture: a test says which service it wants and what it should do.

The workers of pytest-xdist are processes. What a session makes once lies in a directory
that they share, and locks on files keep them apart.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parent.parent
BODY = ROOT / "{{cookiecutter.service_slug}}"

MOST_FILES = 300  # in a service: CONTRIBUTING.md says why

# One environment for all baked services: they lock the same dependencies.
BUILD = ROOT / "build"
SHARED = BUILD / "environment"

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
    if not name.startswith("PYTEST_")
} | GIT
# The programs of the template's environment, also where pytest was called by its path.
PROGRAMS = Path(sys.executable).parent
ENVIRONMENT["PATH"] = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
# Hundreds of processes are started: what they import is to be compiled once.
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)
# As many tests run as there are CPUs: more threads would wait for each other.
ENVIRONMENT["OMP_NUM_THREADS"] = "1"
# mypy takes a minute and a half for a service, and two seconds for the next.
ENVIRONMENT["MYPY_CACHE_DIR"] = str(BUILD / "mypy")


@contextmanager
def locked(file: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, alone or (LOCK_SH) with others; wait until it is free."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        fcntl.flock(opened, kind)
        yield


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

    def texts(self) -> list[str]:
        """Its files, relative and sorted, but for pictures."""
        return sorted(name for name in self.files() if not name.endswith(".png"))

    def install(self) -> "Service":
        """Give it the shared environment, brought up to date by `make setup`."""
        SHARED.mkdir(parents=True, exist_ok=True)
        (self.path / ".venv").symlink_to(SHARED, target_is_directory=True)
        lock = SHARED.with_name("uv.lock")
        with locked(SHARED.with_name("environment.lock")):
            if lock.exists():
                (self.path / "uv.lock").write_bytes(lock.read_bytes())
            # Its scripts must name where it is, not the link of the service at hand.
            self.make("setup", ".venv/.demo", UV_PROJECT_ENVIRONMENT=str(SHARED))
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
        variables = self.environment() | variables
        return run(*command, cwd=self.path, check=check, **variables)

    def environment(self) -> dict[str, str]:
        """The variables of a command of its environment."""
        path = f"{self.path / '.venv' / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}"
        return ENVIRONMENT | {"PATH": path}


# In a test of the engine: it reads files of the service, or what is in `app`.
OWNED = re.compile(r"\bROOT\b|^(from|import) app\b|tests\.app", re.MULTILINE)


def without_the_engine(service: Service) -> list[str]:
    """The options that leave out tests which read no file of an owner.

    They are the same in every service: the default one runs them.
    """
    engine = sorted((service.path / "tests" / "serving").glob("test_*.py"))
    same = [one for one in engine if not OWNED.search(one.read_text(encoding="utf-8"))]
    assert 0 < len(same) < len(engine)
    return [f"--ignore={one.relative_to(service.path)}" for one in same]


def make_environment(name: str, *requirements: str) -> Path:
    """Return the Python of an environment with other packages, which is made once."""
    home = BUILD / name
    python, done = home / "bin" / "python", home / "done"
    uv = (sys.executable, "-m", "uv")
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    newest = about["tool"]["uv"]["exclude-newer"]
    with locked(home.with_suffix(".lock")):
        if not done.exists():
            run(*uv, "venv", "--quiet", "--clear", str(home), cwd=ROOT)
            install = (*uv, "pip", "install", "--quiet", "--exclude-newer", newest)
            run(*install, "--python", str(python), *requirements, cwd=ROOT)
            done.touch()
    return python


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


def make_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Service]
) -> Service:
    """What `make` makes in a directory of that name, by whichever worker comes first.

    If it fails, it fails in every worker that needs it, as a fixture would.
    """
    own = factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    directory = shared / name
    done = directory / "done"
    with locked(shared / f"{name}.lock"):
        if done.exists():
            return Service(Path(done.read_text(encoding="utf-8")))
        if directory.exists():
            pytest.fail(
                f"the service {name!r} could not be made: see the first failure"
            )
        directory.mkdir()
        service = make(directory)
        done.write_text(str(service.path), encoding="utf-8")
        return service


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The default service, installed; for tests that change none of its files."""

    def make(directory: Path) -> Service:
        bake_into(directory, {})
        return Service(directory / "intent-service").install()

    return make_once(tmp_path_factory, "default", make)


@pytest.fixture(scope="session")
def with_feedback(
    default: Service, tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """A service with the option `feedback`; for tests that change none of its files."""

    def make(directory: Path) -> Service:
        bake_into(directory, {"feedback": "yes"})
        return Service(directory / default.path.name).install()

    return make_once(tmp_path_factory, "with-feedback", make)


def copy(service: Service, directory: Path) -> Service:
    """The same service in another directory, with the same environment."""
    target = directory / service.path.name
    shutil.copytree(service.path, target, symlinks=True)
    return Service(target)


@pytest.fixture(scope="session")
def trained(default: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service whose pipeline has run and whose results are committed."""

    def make(directory: Path) -> Service:
        service = copy(default, directory)
        start = time.monotonic()
        output = service.make("train").stdout
        print(f"make train took {time.monotonic() - start:.0f} s")
        assert "Running stage 'export'" in output
        run("git", "add", "--all", cwd=service.path)
        run("git", "commit", "--quiet", "--message", "Train", cwd=service.path)
        return service

    return make_once(tmp_path_factory, "trained", make)


def read_texts(service: Service, name: str) -> list[str]:
    """The texts of a Parquet file of a service, which this environment cannot read."""
    code = f"import pandas; print(pandas.read_parquet('{name}')['text'].to_json())"
    texts: dict[str, str] = json.loads(service.run("python", "-c", code).stdout)
    return list(texts.values())


class Forks:
    """The process of tests/forks.py: runs pytest in one service after the other."""

    def __init__(self, service: Service) -> None:
        python = str(service.path / ".venv" / "bin" / "python")
        self._process = subprocess.Popen(
            [python, str(ROOT / "tests" / "forks.py"), str(service.path)],
            cwd=service.path,
            env=service.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def pytest(
        self, service: Service, *arguments: str, model: Path | None
    ) -> subprocess.CompletedProcess[str]:
        """Run pytest there, with a model that is kept in a file or with its own."""
        # Where nothing is removed when others run.
        own = ("--basetemp", str(service.path.parent / "own"))
        return self.run(service, *arguments, *own, kept=str(model or ""))

    def run(
        self, service: Service, *arguments: str, **request: str
    ) -> subprocess.CompletedProcess[str]:
        """Run pytest or a `module` of the service there."""
        assert self._process.stdin and self._process.stdout
        directory = service.path.parent
        request |= {"path": str(service.path), "output": str(directory / "output")}
        line = json.dumps(request | {"arguments": arguments})
        print(line, file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        said = (directory / "output").read_text(encoding="utf-8")
        return subprocess.CompletedProcess(arguments, code, said)

    def end(self) -> None:
        """Let it end."""
        self._process.communicate()


@pytest.fixture(scope="session")
def forks(default: Service) -> Iterator[Forks]:
    """The process, one for each worker."""
    process = Forks(default)
    yield process
    process.end()


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


@pytest.hookimpl(tryfirst=True)  # the groups are read by pytest-xdist's own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first and those that want to be alone last.

    So no worker is left with a long test when the others have nothing more to do.
    """

    def place(item: pytest.Item) -> tuple[bool, float]:
        slow = item.get_closest_marker("slow")
        seconds = slow.kwargs.get("seconds", 0) if slow else 0
        return item.get_closest_marker("alone") is not None, -seconds

    items.sort(key=place)
    for item in items:
        if item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.xdist_group("alone"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no other test run beside one that is marked `alone`.

    Whoever waits for that holds the gate, so that nobody else begins meanwhile.
    """
    kind = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with ExitStack() as held:
        with locked(BUILD / "gate.lock"):
            held.enter_context(locked(BUILD / "running.lock", kind))
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that passing tests print: pytest would keep them to itself."""
    for report in terminalreporter.getreports("passed"):
        if report.capstdout:
            terminalreporter.write_line(report.capstdout.strip())
