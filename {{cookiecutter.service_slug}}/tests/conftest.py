"""Fixtures: a small but real model, and the service around it with its real life.

Nothing is mocked: the model is trained by the pipeline (the `debug` experiment), and
every client lives between the service's real start-up and shutdown.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from app.main import create_app
from app.service import Service
from app.settings import Settings
from training import __main__ as pipeline
from training.stage import CONFIG_DIR, CONFIG_NAME

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
    """The configuration of a pipeline that has run; for tests that only read."""
    config = compose_config(tmp_path_factory.mktemp("trained"), "experiment=debug")
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
        service = Service(Settings(**{"model_dir": model_dir, **settings}))
        client = TestClient(create_app(service), raise_server_exceptions=False)
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


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that must come true; the test fails if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
