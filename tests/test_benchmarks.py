"""The comparison with other ways to serve a model, in its quick form: no timing."""

import ast
import dataclasses
import os
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from textwrap import indent
from urllib.request import Request, urlopen

import pytest

from benchmarks import compare, rate, watched, wrk
from benchmarks.generated import BODY as REQUEST
from benchmarks.generated import PREDICT, served
from benchmarks.peers import PEERS, SERVICE
from benchmarks.sections import compare_section
from benchmarks.serving import (
    ServingError,
    cpu_seconds,
    free_port,
    open_files,
    processes,
    resident_bytes,
    runs,
    serving,
)
from tests.conftest import BODY, ROOT, Service, copy, run

needs_wrk = pytest.mark.skipif(
    not wrk.installed(), reason="wrk is not installed: apt-get install wrk"
)

QUICK = (SERVICE, "bare", "fastapi")

# Serves files from a process of its own.
FORKING = """
import os, sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
if os.fork():
    os.wait()
    sys.exit()
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler)
server.serve_forever()
"""


def read_imports(path: Path, modules: set[str]) -> set[str]:
    """Return which of the modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    return found & modules


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for directory in ("benchmarks", "tests")
        for path in (ROOT / directory).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {name: read_imports(path, set(paths)) for name, path in paths.items()}

    assert "benchmarks.results" in graph["benchmarks.compare"]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_what_benchmarks_import_leaves_no_bytecode_in_the_template() -> None:
    run(sys.executable, "-c", "import benchmarks.load", cwd=ROOT)

    assert not list(BODY.rglob("__pycache__"))


def test_a_server_and_its_workers_are_measured_and_ended(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-c", FORKING, str(port))
    with serving(command, port, "/", tmp_path / "log", tmp_path) as server:
        family = processes(server.pid)
        assert len(family) == 2
        assert all(len(os.sched_getaffinity(each)) == 1 for each in family)
        assert resident_bytes(server.pid) > 10_000_000
        assert open_files(server.pid) >= 6
        assert cpu_seconds(server.pid) > 0
        server.pause()

    assert not any(map(runs, family))


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no model here')")
    with pytest.raises(ServingError, match="(?s)ended with 1.*no model here"):
        with serving(command, free_port(), "/", tmp_path / "log", tmp_path):
            pass


@needs_wrk
def test_a_load_with_errors_gives_no_figures(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-c", FORKING, str(port))
    with serving(command, port, "/", tmp_path / "log", tmp_path) as server:
        # It knows no POST.
        with pytest.raises(wrk.LoadError, match="status that is not 2xx"):
            wrk.load(server.url, ["{}"], connections=2, seconds=1)


# Takes what has a key, and nothing else.
KEYED = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        keyed = self.headers["Authorization"] == "Bearer key: 1"
        self.answer(200 if keyed else 401)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@needs_wrk
def test_headers_go_with_every_request(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-c", KEYED, str(port))
    key = ["Authorization: Bearer key: 1"]
    with serving(command, port, "/", tmp_path / "log", tmp_path) as server:
        assert wrk.load(server.url, ["{}"], 2, 1, key).rate > 0
        with pytest.raises(wrk.LoadError, match="status that is not 2xx"):
            wrk.load(server.url, ["{}"], 2, 1)


def test_a_variant_is_named_without_its_secrets() -> None:
    variant = rate.Variant("abc", {"API_KEYS": "s3cret"}, ("Authorization: s3cret",))

    assert variant.title == "the service of abc with API_KEYS, Authorization"
    assert rate.Variant().title == "the service of this template"


def test_a_ratio_is_made_within_a_round() -> None:
    # The machine slows down by half; A has nine tenths of the rate throughout.
    rates = rate.summarise([(900, 1000), (450, 500), (225, 250), (90, 100)])

    assert (rates["low"], rates["ratio"], rates["high"]) == (0.9, 0.9, 0.9)
    assert (rates["a"], rates["b"]) == (337.5, 375)
    assert rate.summarise([(1, 2)])["low"] == 0.5


def test_variants_on_different_versions_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b = Service(tmp_path / "a"), Service(tmp_path / "b")

    def versions(python: Path, *packages: str) -> dict[str, str]:
        return {"Python": "3.13.0" if a.path in python.parents else "3.11.7"}

    monkeypatch.setattr(rate, "versions", versions)

    assert rate.same_versions(a, a) == {"Python": "3.13.0"}
    with pytest.raises(wrk.LoadError, match="3.13.0.*3.11.7.*rm -r build/services"):
        rate.same_versions(a, b)


def test_a_variable_without_a_value_is_refused() -> None:
    command = ("-m", "benchmarks.rate", "--a-env", "API_KEYS")
    done = run(sys.executable, *command, cwd=ROOT, check=False)

    assert done.returncode == 2
    assert "--a-env" in done.stdout and "'API_KEYS'" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "counts"), [(watched.WATCHED, True), (watched.BARE, False)]
)
def test_what_watches_the_service_can_be_left_out(
    trained: Service, tmp_path: Path, program: str, counts: bool
) -> None:
    service = copy(trained, tmp_path)
    with served(service, "-c", program) as server:
        json = {"Content-Type": "application/json"}
        request = Request(server.url + PREDICT, REQUEST.encode(), json)
        with urlopen(request, timeout=10) as answer:
            assert (answer.headers["X-Request-ID"] is not None) == counts
        with urlopen(f"{server.url}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()

    assert (f'route="{PREDICT}",status="200"' in metrics) == counts
    assert ("model_batch_size_count 1.0" in metrics) == counts
    scored = re.findall(r"^prediction_score_count.* 1\.0$", metrics, re.MULTILINE)
    assert bool(scored) == counts


@needs_wrk
@pytest.mark.slow
def test_only_servers_with_the_right_answers_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = next(peer for peer in PEERS if peer.name == "bare")
    wrong = dataclasses.replace(
        bare, name="wrong", read=lambda answer: answer["probabilities"][0]
    )
    broken = dataclasses.replace(bare, name="broken", command=("python", "-c", "1/0"))
    missing = dataclasses.replace(bare, name="missing", environment="missing")
    peers = [peer for peer in PEERS if peer.name in QUICK]
    monkeypatch.setattr(compare, "PEERS", (wrong, broken, missing, *peers))

    comparison = compare.measure(rounds=1, seconds=1, connections=(1, 8))

    failed, ran = comparison["peers"][:3], comparison["peers"][3:]
    reasons = [peer["failure"] or "" for peer in failed]
    assert "differ from scikit-learn's" in reasons[0]
    assert "ZeroDivisionError" in reasons[1]
    assert "missing.txt" in reasons[2]
    assert not any(peer["figures"] for peer in failed)

    assert tuple(peer["name"] for peer in ran) == QUICK
    assert comparison["instances"] > 200
    table = compare_section(comparison)
    assert all(indent(reason, " " * 4) in table for reason in reasons)
    for peer in ran:
        assert peer["failure"] is None
        assert peer["difference"] is not None
        assert peer["difference"] <= compare.TOLERANCE
        assert peer["versions"]["onnxruntime"]
        assert peer["seconds_to_ready"] and peer["resident_bytes"]
        assert peer["environment_bytes"]
        assert set(peer["figures"]) == {"1", "8"}
        for figures in peer["figures"].values():
            assert figures["rate"] > 0 and figures["ratio"]
            assert 0 < figures["p50"] <= figures["p99"]
            assert 0 < figures["busy"]
        assert peer["title"] in table
