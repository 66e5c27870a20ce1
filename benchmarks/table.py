"""A million rows of a table: the stages of a service, and the same steps by hand.

The service gets a contract of five fields. Both read the same Parquet file, validate,
split, cross-validate, fit and evaluate; `table_by_hand.py` does so in pandas and
scikit-learn. Time is that of all processes, memory that of the largest one.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.generated import python
from benchmarks.results import versions
from tests.conftest import ENVIRONMENT, Service, bake_into

HERE = Path(__file__).parent
BY_HAND = HERE / "table_by_hand.py"
ROWS = 1_000_000
STAGES = ("ingest", "prepare", "train", "evaluate")

CONTRACT = '''
class Instance(Contract):
    """A trip."""

    distance: Annotated[float, Field(ge=0)]
    hour: Annotated[int, Field(ge=0, le=23)]
    stops: Annotated[int, Field(ge=0)] | None
    carrier: Literal["a", "b", "c", "d"]
    weekend: bool


class LabelledInstance(Instance):
    """A trip and whether it was late."""

    label: Literal["late", "on time"]


class PredictRequest('''

SAMPLE = {"distance": 3.5, "hour": 9, "stops": 1, "carrier": "a", "weekend": False}


def measure(rows: int = ROWS, rounds: int = 3) -> dict[str, object]:
    """Run both in turns."""
    with TemporaryDirectory() as directory:
        bake_into(Path(directory))
        service = Service(Path(directory) / "intent-service").install()
        change_contract(service)
        run([str(python(service)), str(BY_HAND), "make", str(rows)], service.path)
        found: dict[str, list[dict[str, float]]] = {"service": [], "by hand": []}
        for turn in range(rounds):
            found["service"].append(run_stages(service))
            command = [str(python(service)), str(BY_HAND), "learn"]
            found["by hand"].append(run(command, service.path))
            print(f"  round {turn + 1} of {rounds}: {json.dumps(found)}", flush=True)
        named = versions(python(service), "pandas", "pyarrow", "scikit-learn")
    return {
        "versions": named,
        "rows": rows,
        **{
            name.replace(" ", "_"): {
                figure: round(median(run[figure] for run in runs), 2)
                for figure in ("seconds", "bytes")
            }
            for name, runs in found.items()
        },
        **{
            f"ratio_of_{figure}": round(
                median(
                    ours[figure] / theirs[figure]
                    for ours, theirs in zip(
                        found["service"], found["by hand"], strict=True
                    )
                ),
                3,
            )
            for figure in ("seconds", "bytes")
        },
    }


def change_contract(service: Service) -> None:
    """Write the contract of the table and its sample into the service."""
    file = service.path / "app" / "contract.py"
    text = file.read_text(encoding="utf-8")
    begin, end = text.index("class Instance("), text.index("class PredictRequest(")
    text = text[:begin] + CONTRACT.lstrip() + text[end + len("class PredictRequest(") :]
    text = text.replace("Annotated\n", "Annotated, Literal\n", 1)
    file.write_text(text, encoding="utf-8")


def run_stages(service: Service) -> dict[str, float]:
    """Run the stages one by one, as DVC does."""
    data = ("data=csv", "data.path=data/source/rows.parquet")
    chosen = (*data, "gate.macro_f1=0", "root=outputs/table")
    found = [
        run([str(python(service)), "-m", f"training.{stage}", *chosen], service.path)
        for stage in STAGES
    ]
    return {
        "seconds": sum(each["seconds"] for each in found),
        "bytes": max(each["bytes"] for each in found),
        **{stage: each["seconds"] for stage, each in zip(STAGES, found, strict=True)},
    }


def run(command: Sequence[str], directory: Path) -> dict[str, float]:
    """Run a program; return its seconds and its largest resident memory.

    Raises RuntimeError, with what it printed, if it fails.
    """
    log = directory / "outputs" / "table.log"
    log.parent.mkdir(exist_ok=True)
    begin = time.perf_counter()
    with log.open("wb") as output:
        files: list[Any] = [
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, output.fileno(), 2),
        ]
        # posix_spawn cannot set the directory, the shell can.
        shell = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(directory), *command]
        process = os.posix_spawn(shell[0], shell, ENVIRONMENT, file_actions=files)
        _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"{command} failed: {log.read_text(encoding='utf-8')}")
    return {"seconds": seconds, "bytes": usage.ru_maxrss * 1024}


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:])), indent=2))
