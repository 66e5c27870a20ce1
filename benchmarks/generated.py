"""The default service: generate, install, train and serve it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from benchmarks.serving import Server, free_port, serving
from tests.conftest import Service, bake_into

PREDICT = "/v1/predict"
BODY = '{"instances": [{"text": "turn on the lights in the kitchen"}]}'


@contextmanager
def trained() -> Iterator[Service]:
    """Generate and train a service in a directory that lasts as long as the block."""
    with TemporaryDirectory() as directory:
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service").install()
        service.make("train")
        yield service


@contextmanager
def served(
    service: Service,
    *arguments: str,
    models: str = "models",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run the service, or Python with other arguments, until the block ends.

    Raises ServingError if it does not get ready.
    """
    port = free_port()
    with serving(
        [str(python(service)), *(arguments or ("-m", "app"))],
        port,
        "/readyz",
        service.path / f"{port}.log",
        service.path,
        {"PORT": str(port), "MODEL_DIR": models, **variables},
    ) as server:
        yield server


def python(service: Service) -> Path:
    """Return the Python of its environment."""
    return service.path / ".venv" / "bin" / "python"
