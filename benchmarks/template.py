"""What the template costs its users: to generate, set up, train and test.

Times of generation are processor time, beside those of an empty template; the others
are wall time, once each, with their largest parts.
"""

import resource
import shutil
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.results import Generation, Step, versions
from tests.conftest import BODY, ROOT, Service, bake_into, run

LARGEST = 4


def measure(rounds: int = 6) -> dict[str, object]:
    """Generate, set up, train and test a service; then test the template."""
    with TemporaryDirectory() as directory:
        generation = generate(Path(directory), rounds)
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service")
        steps = {
            "make setup": set_up(service),
            "make train": train(service),
            "make test": test(service.path, "test"),
        }
        python = service.path / ".venv" / "bin" / "python"
        found = versions(python, "dvc", "scikit-learn", "skl2onnx", "pytest")
    steps["make test-fast, of the template"] = test(ROOT, "test-fast")
    uv = run("uv", "--version", cwd=ROOT).stdout.split()[1]
    return {
        "versions": found | {"uv": uv},
        "generation": generation,
        "steps": steps,
    }


def generate(directory: Path, rounds: int) -> Generation:
    """Return the least processor time of some rounds: what else runs hardly counts."""
    empty = directory / "empty"
    (empty / BODY.name).mkdir(parents=True)
    (empty / BODY.name / "file.txt").write_text("{{ cookiecutter.service_slug }}\n")
    (empty / "cookiecutter.json").write_text('{"service_slug": "intent-service"}')
    bare = directory / "without-hooks"
    shutil.copytree(ROOT / BODY.name, bare / BODY.name)
    shutil.copy(ROOT / "cookiecutter.json", bare)
    target = directory / "generated"
    target.mkdir()

    def cost(template: Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Without a PATH there is no Git, whose commit is no work of the template's.
        bake_into(target, template=template, PATH="", PYTHONDONTWRITEBYTECODE="")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        shutil.rmtree(target / "intent-service")
        user = after.ru_utime - before.ru_utime
        return user + after.ru_stime - before.ru_stime

    costs = [(cost(ROOT), cost(bare), cost(empty)) for _ in range(rounds)]
    full, without, floor = (min(column) for column in zip(*costs, strict=True))
    return {
        "template": round(full, 2),
        "without_hooks": round(without, 2),
        "empty": round(floor, 2),
    }


def set_up(service: Service) -> Step:
    """Time `make setup` in an environment of its own, with packages from uv's cache."""

    def start_afresh() -> None:
        shutil.rmtree(service.path / ".venv", ignore_errors=True)
        (service.path / "uv.lock").unlink(missing_ok=True)

    # The tests have all bytecode compiled at once; uv does not do so by itself.
    set_up = partial(service.make, "setup", UV_COMPILE_BYTECODE="0")
    set_up()  # fills the cache
    start_afresh()
    seconds = timed(set_up)

    start_afresh()
    parts = {
        name: timed(partial(service.run, *command.split(), UV_COMPILE_BYTECODE="0"))
        for name, command in {
            "choose versions (uv lock)": "uv lock",
            "install them (uv sync)": "uv sync --frozen",
            "Git hooks (pre-commit install)": "pre-commit install",
        }.items()
    }
    service.make("setup")
    return step(seconds, parts)


def train(service: Service) -> Step:
    """Time `make train`, the whole pipeline, and its stages without DVC."""
    stages = yaml.safe_load(service.read("dvc.yaml"))["stages"]
    parts = {
        name: timed(partial(service.run, *stage["cmd"].split()))
        for name, stage in stages.items()
    }
    # The last word is DVC's: what the tests find is what dvc.lock records.
    seconds = timed(partial(service.make, "train"))
    parts["DVC"] = max(seconds - sum(parts.values()), 0)
    return step(seconds, parts)


def test(directory: Path, verb: str) -> Step:
    """Time a verb that runs pytest, and the files of tests that take longest."""
    with TemporaryDirectory() as reports:
        report = Path(reports) / "report.xml"
        command = ("make", "--no-print-directory", verb)
        addopts = f"--junitxml={report}"
        seconds = timed(partial(run, *command, cwd=directory, PYTEST_ADDOPTS=addopts))
        parts: dict[str, float] = defaultdict(float)
        for case in ET.parse(report).iter("testcase"):
            file = case.get("classname", "").rpartition(".")[2]
            parts[file] += float(case.get("time", 0))
    return step(seconds, parts)


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds it takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def step(seconds: float, parts: dict[str, float]) -> Step:
    """Return a step with the largest of its parts, largest first."""
    largest = sorted(parts, key=lambda part: -parts[part])[:LARGEST]
    return {
        "seconds": round(seconds, 1),
        "largest": {part: round(parts[part], 1) for part in largest},
    }
