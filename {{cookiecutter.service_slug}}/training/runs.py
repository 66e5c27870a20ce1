"""The table of all training runs: `make runs` shows it.

Each run of the training appends a row to `paths.runs`, a sweep one for each job, and
`make promote` one with its decision. DVC and Git ignore the file: it tells what was
tried on this machine, and nothing depends on it.
"""

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from training.files import hash_content, read_json, write_json
from training.revision import git_revision
from training.stage import PipelineError, command, in_sweep, job_directory
from training.values import Config

logger = logging.getLogger(__name__)

Row = dict[str, Any]

SHOWN = 100  # characters of a reason


def record_training(
    composed: DictConfig, config: Config | None, seconds: float, reason: str
) -> None:
    """Append a row about a run of the training stage; `reason` is why it failed."""
    files = [config.paths.training] if config else []
    _record(composed, config, seconds, reason, files)


def record_pipeline(
    composed: DictConfig, config: Config | None, seconds: float, reason: str
) -> None:
    """Append a row about a run of all stages, with the scores of the test rows."""
    files = [config.paths.training, config.paths.metrics] if config else []
    _record(composed, config, seconds, reason, files)


def _record(
    composed: DictConfig,
    config: Config | None,
    seconds: float,
    reason: str,
    files: list[Path],
) -> None:
    """Append a row, also for a configuration that is wrong."""
    given = composed.get("paths") or {}
    if config:
        file, rows = config.paths.runs, config.paths.train
    elif given.get("runs"):
        file, rows = Path(str(given["runs"])), Path(str(given.get("train")))
    else:
        return
    scores: dict[str, float] = {}
    for each in [] if reason else files:
        found = read_json(each)
        scores |= {key: value for key, value in found.items() if _is_score(value)}
    job = HydraConfig.get() if HydraConfig.initialized() else None
    row: Row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(job.overrides.task) if job else [],
        "model": OmegaConf.to_object(composed.get("model") or DictConfig({})),
        "seed": composed.get("seed"),
        "data": _hash(rows),
        "revision": git_revision(),
        "seconds": round(seconds, 1),
        "scores": scores,
        "reason": reason,
        "sweep": job.sweep.dir if job and in_sweep() else None,
    }
    append_run(file, row)
    if in_sweep():
        write_json(job_directory() / "run.json", row)


def append_run(file: Path, row: Row) -> None:
    """Append a row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as table:
        table.write(json.dumps(row, default=str) + "\n")


def read_runs(file: Path) -> list[Row]:
    """Return the rows, oldest first. Raises PipelineError if one is damaged."""
    if not file.exists():
        return []
    rows = []
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise PipelineError(
                f"{file}, line {number} is no JSON. Remove that line."
            ) from None
    return rows


def format_runs(rows: list[Row]) -> list[str]:
    """Return a line for each run: those on the same rows together, best first.

    Runs on different rows are not comparable. Those on the newest rows come last, and
    failed runs come last among those on the same rows.
    """
    newest = {row["data"]: place for place, row in enumerate(rows)}
    ordered = sorted(
        rows, key=lambda row: (newest[row["data"]], bool(row["reason"]), -_rank(row))
    )
    return [_format(row) for row in ordered]


def _format(row: Row) -> str:
    scores = [f"{key}={value:.4f}" for key, value in row["scores"].items()]
    first = row.get("decision") or (f"{_rank(row):.4f}" if scores else "failed")
    overrides = " ".join(row["overrides"]) or "(defaults)"
    reason = " ".join(row["reason"].split())
    if len(reason) > SHOWN:
        reason = reason[:SHOWN] + "…"
    facts = [f"seed={row['seed']}", f"data={row['data']}", f"{row['seconds']:.1f} s"]
    commit, changes, _ = row["revision"].partition("+")
    origin = [commit[:8] + changes, row["time"]]
    return "  ".join([first, overrides, *facts, *scores, *origin, reason]).rstrip()


def _rank(row: Row) -> float:
    """Return the score of the validation, by which runs are compared."""
    scores = [
        value for key, value in row["scores"].items() if key.startswith("validation_")
    ]
    return float(scores[0]) if scores else 0.0


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hash(file: Path) -> str:
    """Return the hash that dvc.lock has of a file, shortened; "none" without one."""
    with suppress(OSError):
        return hash_content(file.read_bytes())[:8]
    return "none"


def run(config: Config) -> None:
    """Print the runs."""
    lines = format_runs(read_runs(config.paths.runs))
    print("\n".join(lines or ["No run yet: make train."]))


if __name__ == "__main__":
    command(run)()
