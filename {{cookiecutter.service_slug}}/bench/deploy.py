"""What follows from the report for deploy/: the rules, and what stands there."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.serving import ROOT, BenchError

REPORT = ROOT / "reports" / "capacity.md"
DEPLOY = ROOT / "deploy"
DEPLOYMENT = DEPLOY / "base" / "deployment.yaml"
SCALING = DEPLOY / "components" / "autoscaler" / "scaling.yaml"

LATENCY = 0.020  # seconds of p99 up to which a load counts as carried well
FULLEST = 0.7  # share of the CPU limit: load may grow by 40 % while a pod starts
MARGIN = 1.5  # memory beside what was seen: other requests, the next model
MIB = 2**20
CPU_STEP, MEMORY_STEP = 0.05, 64  # cores, MiB


@dataclass(frozen=True)
class Rule:
    """A value in deploy/, and how it follows from a figure of the report."""

    place: Path
    what: str
    why: str


RULES = {
    "limits.cpu": Rule(
        DEPLOYMENT,
        "cores used at the peak",
        "rounded up to whole CPUs: none of its threads is throttled",
    ),
    "averageValue": Rule(
        SCALING,
        f"cores used at the highest load with a p99 within {LATENCY * 1e3:.0f} ms",
        f"rounded down to 50m, at most {FULLEST:.0%} of the limit: the load may grow "
        "while the next pod starts",
    ),
    "requests.cpu": Rule(
        DEPLOYMENT,
        f"cores used at the highest load with a p99 within {LATENCY * 1e3:.0f} ms",
        "as averageValue: what the autoscaler aims at is kept for each pod",
    ),
    "limits.memory": Rule(
        DEPLOYMENT,
        "MiB resident at the most",
        f"times {MARGIN}, rounded up to {MEMORY_STEP}Mi",
    ),
    "requests.memory": Rule(
        DEPLOYMENT,
        "MiB resident at the most",
        "as the limit: no neighbour can push the pod out",
    ),
}

ROW = re.compile(r"^\| `([\w.]+)` \| `(\w+)` \| ([\d.]+) ", re.MULTILINE)


def follows(figures: dict[str, float]) -> dict[str, str]:
    """The values that follow from the figures; both by the names of `RULES`."""
    # The clock of the kernel ticks in hundredths of a second: a short measurement may
    # show a fifth more than there is.
    limit = max(1, math.ceil(figures["limits.cpu"] - 0.2))
    memory = math.ceil(figures["limits.memory"] * MARGIN / MEMORY_STEP) * MEMORY_STEP
    steps = math.floor(figures["averageValue"] / CPU_STEP + 1e-9)
    cpu = min(max(steps, 1) * CPU_STEP, FULLEST * limit)
    return {
        "limits.cpu": str(limit),
        "averageValue": f"{cpu * 1000:.0f}m",
        "requests.cpu": f"{cpu * 1000:.0f}m",
        "limits.memory": f"{memory}Mi",
        "requests.memory": f"{memory}Mi",
    }


def table(figures: dict[str, float]) -> list[list[str]]:
    """The rows of the report: value, figure, rule, place."""
    figures = {name: round(figure, 2) for name, figure in figures.items()}  # as shown
    values = follows(figures)
    return [
        [
            f"`{name}`",
            f"`{values[name]}`",
            f"{figures[name]:.2f} {rule.what}",
            rule.why,
            f"`{rule.place.relative_to(ROOT)}`",
        ]
        for name, rule in RULES.items()
    ]


def reported() -> tuple[dict[str, float], dict[str, str]]:
    """Figures and values that the report names. Raises BenchError without a report."""
    if not REPORT.exists():
        raise BenchError(f"{REPORT.relative_to(ROOT)} is not there: run make bench.")
    rows = ROW.findall(REPORT.read_text(encoding="utf-8"))
    figures = {name: float(figure) for name, _, figure in rows}
    return figures, {name: value for name, value, _ in rows}


def deployed() -> dict[str, str]:
    """The values that stand in deploy/base."""
    deployment = _documents(DEPLOYMENT)["Deployment"]
    (app,) = deployment["spec"]["template"]["spec"]["containers"]
    scaler = _documents(SCALING)["HorizontalPodAutoscaler"]
    (metric,) = scaler["spec"]["metrics"]
    found = {
        f"{kind}.{resource}": str(app["resources"][kind][resource])
        for kind in ("limits", "requests")
        for resource in ("cpu", "memory")
    }
    return found | {"averageValue": str(metric["resource"]["target"]["averageValue"])}


def differences() -> list[str]:
    """For each value that stands otherwise in deploy/: what to change, and where."""
    there = deployed()
    differ = [
        f"{RULES[name].place.relative_to(ROOT)}: {name} is {there[name]}; "
        f"from {REPORT.relative_to(ROOT)} follows {value}"
        for name, value in reported()[1].items()
        if there[name] != value
    ]
    return differ + ["compose.yaml has them, too (mem_limit, cpus)."] * bool(differ)


def _documents(path: Path) -> dict[str, Any]:
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}
