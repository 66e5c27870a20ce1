"""What every service promises, proven in one of them: too long for each to carry.

The files of in_service/ are put among the tests of a service and run there.
"""

from pathlib import Path

import pytest

from tests.conftest import Service, copy

HERE = Path(__file__).parent / "in_service"
PLACES = {
    "agreement.py": "tests/serving/test_agreement.py",
    "clients.py": "tests/serving/test_clients.py",
    "kubelet.py": "tests/deploy/kubelet.py",
    "pods.py": "tests/deploy/test_pods.py",
}

pytestmark = pytest.mark.slow(seconds=60)


@pytest.fixture
def service(default: Service, tmp_path: Path) -> Service:
    """A service with these tests among its own."""
    service = copy(default, tmp_path)
    add_engine_tests(service)
    return service


def add_engine_tests(service: Service) -> None:
    """Put the files of in_service/ among the tests of a service."""
    for name, place in PLACES.items():
        (service.path / place).write_bytes((HERE / name).read_bytes())


def test_the_fast_path_and_fastapi_agree_on_thousands_of_bodies(
    service: Service,
) -> None:
    service.run("pytest", PLACES["agreement.py"])


def test_real_clients_see_a_413_while_they_send(service: Service) -> None:
    service.run("pytest", PLACES["clients.py"])


@pytest.mark.alone
def test_a_pod_lives_as_its_manifests_say(service: Service) -> None:
    service.run("pytest", PLACES["pods.py"])


def test_what_is_run_in_a_service_is_typed(service: Service) -> None:
    service.run("mypy", *PLACES.values())
