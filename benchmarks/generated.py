"""The default service as it comes out: generated, installed, trained and served."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving import free_port, serving
from tests.conftest import Service, bake_into

BODY = '{"instances": [{"text": "turn on the lights in the kitchen"}]}'


@contextmanager
def trained() -> Iterator[Service]:
    """A service in a directory that lasts as long as the block."""
    with TemporaryDirectory() as directory:
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service").install()
        service.make("train")
        yield service


@contextmanager
def served(service: Service, *arguments: str, models: str = "models") -> Iterator[str]:
    """Serve with Python's arguments until the block ends; gives the URL to ask at.

    Raises ServingError if it does not get ready.
    """
    port = free_port()
    with serving(
        [str(python(service)), *(arguments or ("-m", "app"))],
        port,
        "/readyz",
        service.path / f"{port}.log",
        service.path,
        {"PORT": str(port), "MODEL_DIR": models},
    ) as server:
        yield f"{server.url}/v1/predict"


def python(service: Service) -> Path:
    """The Python of its environment."""
    return service.path / ".venv" / "bin" / "python"
