"""The life of a pod, by the probes and periods of the rendered Deployment."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from app.main import create_app
from app.settings import Settings
from bench.bodies import Bodies

from serving.model import MODEL_FILE
from serving.testing import wait_until
from tests.deploy.kubelet import Load, Pod
from tests.deploy.manifests import STAGES, only, render

Run = Callable[..., Pod]

STAGE = "prod" if "prod" in STAGES else STAGES[0]


@pytest.fixture
def run(model_dir: Path) -> Iterator[Run]:
    """`run(MODEL_DIR=…)`: a pod of that stage, with the small model of the tests."""
    manifests = render(STAGE)
    pods: list[Pod] = []

    def start(**settings: str) -> Pod:
        pods.append(Pod(manifests, **{"MODEL_DIR": str(model_dir), **settings}))
        return pods[-1]

    yield start
    for pod in pods:
        pod.kill()


def wait_for_probes(pod: Pod) -> None:
    """Wait until it would have become ready, had it been able to."""
    wait_until(lambda: pod.probed["readinessProbe"] >= 3)


def test_a_slow_model_gets_no_traffic_and_no_restart(run: Run, model_dir: Path) -> None:
    content = (model_dir / MODEL_FILE).read_bytes()
    # Reading a pipe waits for its writer: loading takes as long as the test likes.
    (model_dir / MODEL_FILE).unlink()
    os.mkfifo(model_dir / MODEL_FILE)
    pod = run()

    wait_for_probes(pod)
    assert not pod.ready and not pod.restarts

    writer = threading.Thread(
        target=(model_dir / MODEL_FILE).write_bytes, args=(content,)
    )
    writer.start()
    wait_until(lambda: pod.ready)
    assert not pod.restarts


def test_a_wrong_model_gets_no_traffic_while_the_old_pod_serves(
    run: Run, model_dir: Path, tmp_path: Path
) -> None:
    old = run()
    wait_until(lambda: old.ready)
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in model_dir.iterdir():
        (wrong / file.name).write_bytes(file.read_bytes()[:1000])

    new = run(MODEL_DIR=str(wrong))
    load = Load([old, new], rate=100)
    wait_for_probes(new)
    load.stop()

    assert not new.ready and not new.restarts
    assert not load.lost
    assert set(load.answers) == {old.process.pid}


def test_liveness_is_answered_while_all_workers_are_busy(run: Run) -> None:
    pod = run()
    wait_until(lambda: pod.ready)
    # As slow as requests can be: as many bytes as a body may hold.
    body = Bodies(create_app(Settings()).openapi()).largest(1_000_000).decode()
    probes: list[tuple[bool, float]] = []

    with ThreadPoolExecutor(8) as clients:
        requests = [
            clients.submit(pod.ask, "POST", "/v1/predict", 60, body) for _ in range(60)
        ]
        while not all(request.done() for request in requests):
            probes.append(pod.probe("livenessProbe"))
            time.sleep(0.02)

    assert [request.result() for request in requests] == [200] * 60
    assert probes and all(passed for passed, _ in probes)
    assert pod.ready and not pod.restarts
    p99 = sorted(seconds for _, seconds in probes)[int(len(probes) * 0.99)]
    print(f"liveness under slow predictions: p99 {p99 * 1000:.0f} ms")


def test_a_rolling_restart_under_load_loses_no_request(run: Run) -> None:
    settle = float(only(render(STAGE), "Deployment")["spec"]["minReadySeconds"])
    pods = [run(), run()]
    wait_until(lambda: all(pod.ready for pod in pods))

    load = Load(pods, rate=400)
    with ThreadPoolExecutor() as ends:
        for old in list(pods):
            # One more than there should be, and never one fewer.
            pods.append(run())
            wait_until(lambda: pods[-1].ready)
            time.sleep(settle)
            ends.submit(old.stop)
    rate = load.stop()

    assert not load.lost, load.lost[:10]
    assert len(load.answers) == 4
    assert [pod.process.returncode for pod in pods[:2]] == [0, 0]
    print(f"rolling restart at {rate:.0f} requests a second: none lost")


def test_a_pod_ends_in_time_whatever_a_client_does(run: Run) -> None:
    pod = run()
    wait_until(lambda: pod.ready)

    with socket.create_connection(("127.0.0.1", pod.port)) as silent:
        silent.sendall(b"POST /v1/predict HTTP/1.1\r\nContent-Length: 9\r\n")
        took = pod.stop()

    assert pod.process.returncode == 0
    print(f"a pod with a silent client ended within {took:.0f} s")
