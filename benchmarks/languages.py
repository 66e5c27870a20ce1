"""The default data in each of its languages: which configuration passes the gate?

All languages are tried as they come. Those that fail are tried with one override after
the other, until one passes.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.generated import python
from benchmarks.results import Language, versions
from tests.conftest import Service, bake_into

# From what costs least; the last for texts that words do not tell apart.
CHOICES: tuple[tuple[str, ...], ...] = (
    (),
    ("model=characters",),
    ("model=characters", "model.longest=3"),
    ("model=linear", "model.longest=2"),
    ("model=bayes",),
)
LIST = """
import json
from home_assistant_intents import get_languages
print(json.dumps(sorted(get_languages())))
"""


def measure() -> dict[str, object]:
    """Try each language until it passes the gate, or nothing is left to try."""
    with TemporaryDirectory() as directory:
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service").install()
        left: list[str] = json.loads(service.run("python", "-c", LIST).stdout)
        found: dict[str, Language] = {}
        for choices in CHOICES:
            for name, result in sweep(service, left, choices).items():
                if name not in found or result["score"] > found[name]["score"]:
                    found[name] = result
            left = [name for name in left if found[name]["reason"]]
            if not left:
                break
            print(f"  {len(left)} left after {' '.join(choices) or 'none'}", flush=True)
        named = versions(python(service), "home-assistant-intents", "scikit-learn")
        gate = re.search(r"macro_f1: (\S+)", service.read("training/conf/config.yaml"))
    assert gate, "the gate of the default service has no macro_f1"
    return {
        "versions": named,
        "gate": float(gate[1]),
        "languages": dict(sorted(found.items())),
    }


def sweep(
    service: Service, names: list[str], choices: tuple[str, ...]
) -> dict[str, Language]:
    """Train on each language in one process; what fails stops no other."""
    directory = service.path / "outputs" / f"languages-{CHOICES.index(choices)}"
    command = ["python", "-m", "training", "-m", f"data.language={','.join(names)}"]
    done = service.run(*command, *choices, f"hydra.sweep.dir={directory}", check=False)
    jobs = [file.parent for file in sorted(directory.glob("*/run.json"))]
    found: dict[str, Language] = {}
    for job in jobs:
        row = json.loads((job / "run.json").read_text(encoding="utf-8"))
        (name,) = (
            override.partition("=")[2]
            for override in row["overrides"]
            if override.startswith("data.language=")
        )
        metrics = read(job / "metrics.json", {})
        found[name] = {
            "labels": len(read(job / "plots" / "f1.json", [])),
            "score": metrics.get("macro_f1", 0.0),
            "overrides": list(choices),
            "reason": row["reason"],
        }
    if sorted(found) != sorted(names):
        raise RuntimeError(f"Of {names}, only {sorted(found)}: {done.stdout[-2000:]}")
    return found


def read(file: Path, otherwise: Any) -> Any:
    """Return the content of a file that a job has written if it came so far."""
    return json.loads(file.read_text("utf-8")) if file.exists() else otherwise
