"""What was measured: one JSON file a part in benchmarks/results, kept in Git.

A part is a module with `measure()`. What it returns, with the date and the number of
CPUs, is its file; the shapes below are what benchmarks.report reads.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

if TYPE_CHECKING:  # its servers are pinned to CPUs, which only Linux can do
    from benchmarks.compare import Comparison

RESULTS = Path(__file__).parent / "results"

VERSIONS = """
import json, platform, sys
from importlib.metadata import version
python = {"Python": platform.python_version()}
print(json.dumps(python | {name: version(name) for name in sys.argv[1:]}))
"""


class Measured(TypedDict):
    """The day (UTC), the CPUs of the machine, the seconds it took, and with what."""

    date: str
    cpus: int
    took: float
    versions: dict[str, str]


class Load(TypedDict):
    """Answers a second; time to answer, in seconds."""

    rate: float
    p99: float


class Labels(Measured):
    """`labels` maps the number of labels to what the service carried."""

    connections: int
    labels: dict[str, Load]


class Watched(Measured):
    """Request rates, watched to bare: the median of the rounds and their quartiles."""

    rounds: int
    connections: int
    low: float
    ratio: float
    high: float


class Step(TypedDict):
    """Seconds of wall time, and those of the largest of its parts."""

    seconds: float
    largest: dict[str, float]


class Generation(TypedDict):
    """Seconds of processor time: with hooks, without, and of an empty template."""

    template: float
    without_hooks: float
    empty: float


class Template(Measured):
    """What the template costs who works with it."""

    generation: Generation
    steps: dict[str, Step]


class Suite(Measured):
    """All tests of the template."""

    steps: dict[str, Step]


class Capacity(Measured):
    """What `make bench` and `make soak` of a fresh service wrote, in Markdown.

    The loads are those of its tables: by connections, by instances in a request, and by
    characters in a text. `goodput` is the least share of the peak that it still answers
    under overload, `faults` is how many the soak found.
    """

    capacity: str
    connections: dict[str, Load]
    batches: dict[str, Load]
    lengths: dict[str, Load]
    goodput: float
    soak: str
    faults: int


class Results(TypedDict):
    """What is there of each part."""

    compare: NotRequired["Comparison"]
    capacity: NotRequired[Capacity]
    labels: NotRequired[Labels]
    watched: NotRequired[Watched]
    template: NotRequired[Template]
    suite: NotRequired[Suite]


def keep(part: str, measured: Mapping[str, object], took: float) -> None:
    """Write what a part measured, and how many seconds it took to do so."""
    about: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "took": round(took),
    }
    text = json.dumps(about | dict(measured), indent=2, ensure_ascii=False)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def load(directory: Path = RESULTS) -> Results:
    """All that is kept."""
    kept: dict[str, Any] = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(directory.glob("*.json"))
    }
    return cast(Results, kept)


def versions(python: Path, *packages: str) -> dict[str, str]:
    """The versions of an environment: of its Python and of some of its packages."""
    command = [str(python), "-c", VERSIONS, *packages]
    found: dict[str, str] = json.loads(subprocess.check_output(command, text=True))
    return found
