"""Fixtures: the service of `app/` around a small model, with its real life.

Nothing is mocked: the pipeline trains the model that `training/conf` names, on rows
made of the samples in `app/examples.py`, and every client lives between the service's
real start-up and shutdown. `tests/serving` puts a service of its own in its place.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pandas as pd
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.contract import Instance, LabelledInstance
from app.examples import EXAMPLES
from app.main import create_app
from app.settings import Settings
from serving.fields import FieldKind, Kind, read_kinds, read_label
from serving.testing import SERVICE, ServiceProcess, wait_until
from tests.exchanges import (  # noqa: F401 - the hooks are pytest's
    pytest_addoption,
    pytest_sessionfinish,
    pytest_testnodedown,
    record,
)

if TYPE_CHECKING:
    from training.values import Config

BODY = {"instances": EXAMPLES[:1]}
# Where feedback was chosen: no test writes into the database of this machine.
os.environ["DATABASE_URL"] = "sqlite://"
# Tests run beside each other: threads of a fit would wait for each other's turns.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass(frozen=True)
class Subject:
    """The service under test: how it is built and started, and one good request."""

    build: Callable[..., FastAPI]  # takes settings by their names
    command: tuple[str, ...]
    path: str
    body: dict[str, Any]


Serve = Callable[..., TestClient]


def write_rows(file: Path) -> None:
    """Write training rows: each sample, in a few dozen variants, is an outcome.

    Only texts vary: what the contract says of the other fields may tie them together.
    """
    label = read_label(LabelledInstance)
    texts = [field.name for field in read_kinds(Instance) if field.kind is Kind.TEXT]
    rows: list[dict[str, Any]] = []
    for number, sample in enumerate(EXAMPLES if len(EXAMPLES) > 1 else EXAMPLES * 2):
        for variant in range(20 + 4 * number):  # so that the shares differ
            words = f"label{number} {variant}"
            varied = {name: f"{sample.get(name) or ''} {words}" for name in texts}
            row = {**sample, **varied, "label": make_label(label, number)}
            if "group" in LabelledInstance.model_fields:
                row["group"] = f"{number} {variant // 4}"
            if (
                time := LabelledInstance.model_fields.get("time")
            ) and time.is_required():
                is_number = time.annotation in (int, float)
                row["time"] = variant if is_number else f"2026-01-01T00:{variant:02}:00"
            rows.append(row)
    pd.DataFrame(rows).to_parquet(file)


def make_label(label: FieldKind, number: int) -> Any:
    """The label of the sample of a number."""
    match label.kind:
        case Kind.CATEGORY:
            return label.values[number % len(label.values)]
        case Kind.FLAG:
            return number % 2 == 0
        case Kind.NUMBER:
            value = min(max(float(number), label.lowest), label.highest)
            return round(value) if label.whole else value
    return f"label{number}"


def overrides(rows: Path) -> list[str]:
    """Return the overrides that train on these rows, whatever `training/conf` has."""
    source = "{_target_: training.sources.table, path: '%s'}" % rows
    chosen = ["~data", f"+data={source}", "corrections=null"]
    return [*chosen, "validation.folds=2", "~gate", "+gate={}"]


def compose_config(directory: Path, *chosen: str) -> "Config":
    """The configuration, with every path moved into a directory."""
    from training.stage import compose
    from training.values import Paths

    config = compose(chosen)
    moved = {name: directory / path for name, path in config.paths}
    return config.model_copy(update={"paths": Paths(**moved)})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "Config":
    """The configuration of a pipeline that has run; for tests that only read."""
    # Imported here: it takes seconds, which the tests of the engine do without.
    from training import __main__ as pipeline

    directory = tmp_path_factory.mktemp("trained")
    write_rows(directory / "rows.parquet")
    config = compose_config(directory, *overrides(directory / "rows.parquet"))
    pipeline.run(config)
    return config


@pytest.fixture
def model_dir(trained: "Config", tmp_path: Path) -> Path:
    """A copy of the model, to be broken at will."""
    return Path(shutil.copytree(trained.paths.model, tmp_path / "model"))


@pytest.fixture
def subject() -> Subject:
    """The service of `app/`."""
    return Subject(
        lambda **settings: create_app(Settings(**settings)),
        SERVICE,
        "/v1/predict",
        BODY,
    )


@pytest.fixture
def serve(subject: Subject, model_dir: Path) -> Iterator[Serve]:
    """`serve(max_concurrency=2)`: a client of a service with these settings."""
    clients: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        app = subject.build(**{"model_dir": model_dir, **settings})
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        if subject.command == SERVICE:
            client.event_hooks = {"response": [record]}
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A client of a service that is ready."""
    client = serve()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    return client


class Process(ServiceProcess):
    """The service as a process, with settings of its own."""

    def __init__(
        self, subject: Subject, log: Path, code: str = "", **settings: str
    ) -> None:
        """With `code`, those lines of Python are run before it starts."""
        self._subject = subject
        command = subject.command
        if code:
            *_, module = command
            run = f"\nimport runpy; runpy.run_module({module!r}, run_name='__main__')"
            command = (sys.executable, "-c", code + run)
        super().__init__(log, command, **settings)

    def readiness(self) -> int:
        """Return the status of /readyz."""
        return httpx2.get(f"{self.url}/readyz").status_code

    def listens(self) -> bool:
        """Return False once it takes no new connections."""
        try:
            self.readiness()
        except (httpx2.NetworkError, httpx2.RemoteProtocolError):
            return False
        return True

    def ask(
        self, headers: dict[str, str] | None = None, path: str = ""
    ) -> httpx2.Response:
        """Send the good request on a connection of its own."""
        url = f"{self.url}{path or self._subject.path}"
        return httpx2.post(url, json=self._subject.body, headers=headers, timeout=20)

    def ready(self) -> "Process":
        """Wait until it is ready."""
        self.wait_until_ready()
        return self

    def stop(self) -> None:
        """Send SIGTERM and wait for a proper end."""
        self.terminate()
        assert self.process.wait(timeout=20) == 0


Start = Callable[..., Process]


@pytest.fixture
def start(subject: Subject, model_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(DRAIN_SECONDS="1")`: a process with these settings, ended afterwards."""
    processes: list[Process] = []

    def run(code: str = "", **settings: str) -> Process:
        log = tmp_path / f"stderr-{len(processes)}"
        settings = {"MODEL_DIR": str(model_dir), **settings}
        processes.append(Process(subject, log, code, **settings))
        return processes[-1]

    yield run
    for process in processes:
        process.end()
