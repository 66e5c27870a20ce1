"""The rules by which `deploy/` follows from the figures.

Each rule is a function from the figures to a value; its docstring is its reason.
"""

import math
from collections.abc import Callable
from typing import Any

import yaml

from bench import ROOT
from bench.capacity import Capacity, Level

MAX_P99 = 0.020  # seconds, up to which a step of load counts as carried well
MAX_CPU_SHARE = 0.7  # of the limit: load may grow by 40 % while the next pod starts
MEMORY_FACTOR = 1.5  # for other requests, and for the next model
MIB = 2**20


def limit_cpu(capacity: Capacity) -> str:
    """Cores used at the peak, rounded up to whole CPUs: no thread is throttled."""
    # The kernel counts CPU time in hundredths of a second: a short measurement may
    # show up to a fifth too much.
    return str(max(1, math.ceil(capacity.peak.cores - 0.2)))


def request_cpu(capacity: Capacity) -> str:
    """Cores used at the highest step with a p99 within MAX_P99, rounded down to 50m; at
    most MAX_CPU_SHARE of the limit: the load may grow while the next pod starts."""
    *_, step = [next(iter(capacity.steps.values())), *carried_well(capacity)]
    cores = max(math.floor(step.cores / 0.05 + 1e-9), 1) * 0.05
    return f"{min(cores, MAX_CPU_SHARE * int(limit_cpu(capacity))) * 1000:.0f}m"


def memory(capacity: Capacity) -> str:
    """Most resident memory times MEMORY_FACTOR, rounded up to 64Mi. Request and limit
    are the same: no neighbour can evict the pod."""
    blocks = math.ceil(capacity.memory_at_most / MIB * MEMORY_FACTOR / 64)
    return f"{blocks * 64}Mi"


# The values of a pod, and of the autoscaler.
RULES: dict[str, Callable[[Capacity], str]] = {
    "limits.cpu": limit_cpu,
    "requests.cpu": request_cpu,
    "averageValue": request_cpu,
    "limits.memory": memory,
    "requests.memory": memory,
}


def carried_well(capacity: Capacity) -> list[Level]:
    """Return the steps of load without rejections and with a short p99."""
    steps = capacity.steps.values()
    return [level for level in steps if level.p99 <= MAX_P99 and not level.rejected]


def values(capacity: Capacity) -> dict[str, str]:
    """Return the values that follow, by the names of `RULES`."""
    return {name: rule(capacity) for name, rule in RULES.items()}


def place(name: str) -> str:
    """Return the file in which a value stands."""
    if name == "averageValue":
        return "deploy/components/autoscaler/scaling.yaml"
    return "deploy/base/deployment.yaml"


def deployed() -> dict[str, str]:
    """Return the values that stand in deploy/, by the names of `RULES`."""
    deployment = _documents("limits.cpu")["Deployment"]
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (app,) = (one for one in containers if one["name"] == "app")
    scaler = _documents("averageValue")["HorizontalPodAutoscaler"]
    (metric,) = scaler["spec"]["metrics"]
    found = {"averageValue": str(metric["resource"]["target"]["averageValue"])}
    for name in RULES.keys() - found.keys():
        kind, resource = name.split(".")
        found[name] = str(app["resources"][kind][resource])
    return found


def differences(capacity: Capacity) -> list[str]:
    """Return what to change, and where, for each value of deploy/ that differs."""
    there = deployed()
    differ = [
        f"{place(name)}: {name} is {there[name]}; {value} follows from "
        "reports/capacity.json"
        for name, value in values(capacity).items()
        if there[name] != value
    ]
    if differ:
        differ.append("compose.yaml has the limits, too (mem_limit, cpus).")
    return differ


def _documents(name: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / place(name)).read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}
