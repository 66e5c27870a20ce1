"""Fixtures: a small but real model, and the service around it with its real life.

Nothing is mocked: the model is trained by the pipeline (the `debug` experiment), and
every client lives between the service's real start-up and shutdown.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from app.examples import EXAMPLES
from app.main import create_app
from app.settings import Settings
from serving.testing import SERVICE, ServiceProcess, wait_until
from training import __main__ as pipeline
from training.stage import CONFIG_DIR, CONFIG_NAME

BODY = {"instances": EXAMPLES[:1]}

Compose = Callable[..., DictConfig]
Serve = Callable[..., TestClient]


def compose_config(directory: Path, *overrides: str) -> DictConfig:
    """The Hydra configuration, with every path moved into a directory."""
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose(CONFIG_NAME, list(overrides))
    for name, path in config.paths.items():
        config.paths[name] = str(directory / path)
    return config


@pytest.fixture
def configure(tmp_path: Path) -> Compose:
    """`configure("data=csv", …)`: a configuration that writes into a directory."""
    return lambda *overrides: compose_config(tmp_path, *overrides)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """The configuration of a pipeline that has run; for tests that only read.

    Its data and model are named, so that the tests hold whatever you choose yourself.
    """
    directory = tmp_path_factory.mktemp("trained")
    choices = ["experiment=debug", "data=intents", "model=words"]
    config = compose_config(directory, *choices)
    pipeline.run(config)
    return config


@pytest.fixture
def model_dir(trained: DictConfig, tmp_path: Path) -> Path:
    """A copy of the model, to be broken at will."""
    return Path(shutil.copytree(trained.paths.model, tmp_path / "model"))


@pytest.fixture
def serve(model_dir: Path) -> Iterator[Serve]:
    """`serve(max_concurrency=2)`: a client of a service with these settings."""
    clients: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        app = create_app(Settings(**{"model_dir": model_dir, **settings}))
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
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
    """`python -m app` with settings of its own; with `code`, those lines of Python."""

    def __init__(self, log: Path, code: str = "", **settings: str) -> None:
        command = (sys.executable, "-c", code) if code else SERVICE
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

    def predict(self, headers: dict[str, str] | None = None) -> httpx2.Response:
        """Ask for one prediction on a connection of its own."""
        url = f"{self.url}/v1/predict"
        return httpx2.post(url, json=BODY, headers=headers, timeout=20)

    def ready(self) -> "Process":
        """Wait until it is ready."""
        self.wait_until_ready()
        return self


Start = Callable[..., Process]


@pytest.fixture(scope="session")
def server(
    trained: DictConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """One process with the default settings, for tests that leave it as it is."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    process = Process(log, MODEL_DIR=trained.paths.model).ready()
    yield process
    process.end()


@pytest.fixture
def start(model_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """`start(DRAIN_SECONDS="1")`: a process with these settings, ended afterwards."""
    processes: list[Process] = []

    def run(code: str = "", **settings: str) -> Process:
        log = tmp_path / f"stderr-{len(processes)}"
        settings = {"MODEL_DIR": str(model_dir), **settings}
        processes.append(Process(log, code, **settings))
        return processes[-1]

    yield run
    for process in processes:
        process.end()
