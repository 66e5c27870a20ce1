"""Decide whether the trained candidate takes the place of the model: `make promote`.

The candidate is what `make train` made of the working tree. Its recipe and rows are
compared with those of a commit. Two sets of rows are held out: the test rows of the
commit, and the corrections of users that no training row of the candidate has. Today's
code fits each recipe on all of its other rows. The candidate wins if

- its score on the test rows falls by no more than `promote.tolerance`, and no label
  loses more than `promote.label_tolerance` of its rows, beyond chance,
- it is better on the corrections, if there are any, and
- no tenant of the corrections loses more than `promote.tenant_tolerance`.
"""

import io
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from sklearn.pipeline import Pipeline

from serving.contract import Task
from training.columns import read_inputs, read_labels
from training.compare import describe, fit_recipe, read_recipe
from training.corrections import find_file, separate_tenants
from training.diagnosis import score_rows
from training.files import hash_content, read_bytes, write_json, write_text
from training.gate import PRIMARY
from training.ingest import validate
from training.revision import git, git_revision
from training.rows import read_rows
from training.runs import append_run
from training.schema import Schema, read_schema
from training.scores import Truth, score_primary
from training.splits import has_group, read_groups
from training.stage import PipelineError, compose
from training.tables import read_table
from training.train import label_names, predict
from training.values import Config, ConfigError, Promote

STANDARD_ERRORS = 3  # that the difference of two models may be by chance
PROPOSAL = Path("outputs/promotion.md")  # exists if the candidate has won


@dataclass(frozen=True)
class Corrections:
    """Corrections of users, and the tenant of each; None if the file knows none."""

    rows: pd.DataFrame
    tenants: "pd.Series[str] | None"


@dataclass
class Decision:
    """What was found about a candidate. Any reason `against` it keeps the model."""

    against: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        """Return whether the candidate takes the place of the model."""
        return not self.against

    def lines(self) -> list[str]:
        """Return the decision and its reasons, a line for each."""
        winner = "The candidate is promoted." if self.promoted else "The model stays."
        return [winner, *self.against, *self.found]


def run(config: Config, commit: str = "HEAD") -> Decision:
    """Compare the candidate with the model of a commit, and write the decision.

    Raises PipelineError if the rows or the recipe of the commit cannot be had.
    """
    begin = time.perf_counter()
    config.paths.promotion.unlink(missing_ok=True)
    PROPOSAL.unlink(missing_ok=True)
    decision = decide(config, commit)
    record(config, decision, commit, time.perf_counter() - begin)
    return decision


def decide(config: Config, commit: str) -> Decision:
    """Return the decision. Raises PipelineError."""
    schema, recipe = read_schema(), read_recipe(commit)
    names = (config.paths.train, config.paths.test)
    hashes = read_hashes(commit, names)
    changed = any(hash_content(read_bytes(name)) != hashes[name] for name in names)
    if recipe == config.model and not changed:
        return Decision([f"Recipe and rows are those of {commit}: nothing is new."])

    train, test = (read_rows(name, schema.labelled) for name in names)
    learned, original = (
        read_committed(name, hashes[name], commit, schema) for name in names
    )
    corrections = hold_out(schema, read_corrections(schema, config), train)
    held_out = [original, *([corrections.rows] if corrections else [])]
    theirs = drop_known(schema, learned, held_out)
    ours = drop_known(schema, pd.concat([train, test], ignore_index=True), held_out)
    what = "other rows" if changed else "the same rows"
    found = [
        f"Candidate: {describe(config.model)}, fitted on {len(ours)} rows; {commit}: "
        f"{describe(recipe)}, fitted on {len(theirs)} ({what})."
    ]
    models = [
        fit_recipe(recipe, schema, theirs),
        fit_recipe(config.model, schema, ours),
    ]
    decision = Decision(found=found)
    judge_original(decision, config.promote, schema, models, original)
    if corrections:
        judge_corrections(decision, config.promote, schema, models, corrections)
    else:
        place = config.corrections
        decision.found.append(f"There are no corrections to judge by: {place}.")
    return decision


def judge_original(
    decision: Decision,
    limits: Promote,
    schema: Schema,
    models: list[Pipeline],
    rows: pd.DataFrame,
) -> None:
    """Compare the metric of the task on the test rows of the commit."""
    name, truth = PRIMARY[schema.task], read_labels(schema, rows)
    inputs = read_inputs(schema, rows)
    answers = [(predict(model, inputs), label_names(model)) for model in models]
    before, after = (score_primary(schema.task, truth, *answer) for answer in answers)
    shown = _show(name, before, after, len(rows), "test rows of the commit")
    decision.scores[f"original_{name}"] = round(after, 4)
    if schema.task is Task.CLASSIFICATION:
        right = [score_rows(schema.task, truth, *answer) for answer in answers]
        decision.against += find_lost_labels(limits, truth, *right)
    if after < before - limits.tolerance:
        decision.against.append(f"{shown} It may fall by {limits.tolerance:g}.")
        return
    decision.found.append(shown)


def find_lost_labels(
    limits: Promote,
    truth: Truth,
    before: "pd.Series[float]",
    after: "pd.Series[float]",
) -> list[str]:
    """Return a line for each label of which the candidate loses too many rows.

    The mean over many labels hides a loss of one. `before` and `after` tell which rows
    are right. A difference of up to three standard errors may be chance (McNemar).
    """
    lines = []
    change = after - before
    for label in sorted(set(truth)):
        own = change[truth == label]
        beyond_chance = STANDARD_ERRORS * np.sqrt(own.abs().sum())
        if -own.sum() > max(limits.label_tolerance * len(own), beyond_chance):
            old, new = before[own.index].mean(), after[own.index].mean()
            shown = _show("accuracy", old, new, len(own), f"test rows of {label!r}")
            lines.append(f"{shown} No label may lose so much.")
    return lines


def judge_corrections(
    decision: Decision,
    limits: Promote,
    schema: Schema,
    models: list[Pipeline],
    corrections: Corrections,
) -> None:
    """Compare the accuracy, or the mean error, on the corrections, and by tenant."""
    rows = corrections.rows
    truth, inputs = read_labels(schema, rows), read_inputs(schema, rows)
    before, after = (
        score_rows(schema.task, truth, predict(model, inputs), label_names(model))
        for model in models
    )
    name = str(after.name)
    shown = _show(name, before.mean(), after.mean(), len(rows), "held-out corrections")
    decision.scores[f"corrections_{name}"] = round(float(after.mean()), 4)
    is_error = schema.task is Task.REGRESSION
    gain = float(after.mean() - before.mean()) * (-1 if is_error else 1)
    if gain > 0:
        decision.found.append(shown)
    else:
        decision.against.append(f"{shown} It must get better.")
    if corrections.tenants is None:
        return
    for tenant, places in sorted(corrections.tenants.groupby(corrections.tenants)):
        own = places.index
        old, new = float(before[own].mean()), float(after[own].mean())
        whose = f"corrections of {tenant or 'no tenant'}"
        shown = _show(name, old, new, len(own), whose)
        if loses_too_much(limits, old, new, len(own), is_error):
            decision.against.append(f"{shown} No tenant may lose so much.")
        else:
            decision.found.append(shown)


def loses_too_much(
    limits: Promote, before: float, after: float, rows: int, is_error: bool
) -> bool:
    """Return whether the metric of a tenant gets worse by more than it may.

    An accuracy may fall by a share of the rows, and always by one row; an error may
    grow by a share of what it was.
    """
    if is_error:
        return after > before * (1 + limits.tenant_tolerance)
    allowed = max(limits.tenant_tolerance, 1 / rows)
    return before - after > allowed + 1e-9  # more than rounding errors


def read_hashes(commit: str, names: tuple[Path, ...]) -> dict[Path, str]:
    """Return the hash that the dvc.lock of a commit has of each file."""
    try:
        lock = yaml.safe_load(git("show", f"{commit}:./dvc.lock"))
        outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
        known = {Path(out["path"]): str(out["md5"]) for out in outs}
        return {name: known[name] for name in names}
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip()
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise PipelineError(
        f"The dvc.lock of {commit} does not name {', '.join(map(str, names))}: "
        f"{reason}. Commit dvc.lock after make train, or name a commit that has it: "
        "make promote WITH=HEAD~1"
    )


def read_committed(
    name: Path, known_hash: str, commit: str, schema: Schema
) -> pd.DataFrame:
    """Return the rows that a file had in a commit, from the working tree or the cache.

    Raises PipelineError if neither has them, or if their columns are others.
    """
    content = name.read_bytes()
    if hash_content(content) != known_hash:
        try:
            content = (_cache() / known_hash[:2] / known_hash[2:]).read_bytes()
        except OSError:
            raise PipelineError(
                f"{name} of {commit} is not in the cache of DVC. Fetch what commits "
                "name: dvc fetch --all-commits"
            ) from None
    rows = pd.read_parquet(io.BytesIO(content))
    wanted = list(schema.labelled.model_fields)
    if list(rows.columns) != wanted:
        raise PipelineError(
            f"{name} of {commit} has the columns {list(rows.columns)}, but "
            f"app/contract.py has {wanted}: models of different contracts cannot be "
            "compared. Commit the new one, and compare what comes after it."
        )
    return rows


def _cache() -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True
    )
    return Path(done.stdout.strip() or ".dvc/cache", "files", "md5")


def read_corrections(schema: Schema, config: Config) -> Corrections | None:
    """Return the rows of `corrections`; None if there is no such file.

    A column `tenant` says whose they are. Raises PipelineError, as `validate`.
    """
    if not (path := find_file(config.corrections)):
        return None
    tenants: list[Any] = []
    chunks = []
    for chunk in read_table(path):
        columns, known = separate_tenants(chunk, schema.labelled.model_fields)
        tenants += known
        chunks.append(replace(chunk, columns=columns))
    rows = validate(chunks, schema.labelled, str(path), config.paths.bad_rows)
    return Corrections(rows, pd.Series(tenants, dtype=str) if tenants else None)


def hold_out(
    schema: Schema, corrections: Corrections | None, train: pd.DataFrame
) -> Corrections | None:
    """Return the corrections that no training row has, by its inputs or its group.

    Raises PipelineError if there is none.
    """
    if corrections is None:
        return None
    held = ~is_known(schema, corrections.rows, [train])
    if not held.any():
        raise PipelineError(
            f"All {len(held)} corrections are among the training rows: none is left "
            "to judge by. Keep some out of the training, or let split.test_share do it."
        )
    rows = corrections.rows[held].reset_index(drop=True)
    tenants = corrections.tenants
    if tenants is not None:
        tenants = tenants[held].reset_index(drop=True)
    return Corrections(rows, tenants)


def drop_known(
    schema: Schema, rows: pd.DataFrame, held_out: list[pd.DataFrame]
) -> pd.DataFrame:
    """Return the rows that share no inputs and no group with held-out rows."""
    return rows[~is_known(schema, rows, held_out)].reset_index(drop=True)


def is_known(
    schema: Schema, rows: pd.DataFrame, others: list[pd.DataFrame]
) -> npt.NDArray[np.bool_]:
    """Return which rows have the inputs, or the group, of one of the others."""
    known: npt.NDArray[np.bool_] = np.zeros(len(rows), np.bool_)
    hashes = _hash_inputs(schema, rows)
    for other in others:
        known |= np.isin(hashes, _hash_inputs(schema, other))
        if schema.has_group:
            same = read_groups(rows).isin(set(read_groups(other)))
            known |= (has_group(rows) & same).to_numpy(np.bool_)
    return known


def _hash_inputs(schema: Schema, rows: pd.DataFrame) -> "pd.Series[int]":
    inputs = read_inputs(schema, rows)
    return pd.util.hash_pandas_object(inputs, index=False)


def _show(name: str, before: float, after: float, rows: int, where: str) -> str:
    return (
        f"{name} {before:.4f} -> {after:.4f} ({after - before:+.4f}), {rows} {where}."
    )


def record(config: Config, decision: Decision, commit: str, seconds: float) -> None:
    """Write the decision, a row for `make runs`, and the proposal of a winner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        config.paths.promotion,
        {
            "promoted": decision.promoted,
            "time": now,
            "compared_with": commit_hash(commit),
            "scores": decision.scores,
            "reasons": [*decision.against, *decision.found],
        },
    )
    append_run(
        config.paths.runs,
        {
            "time": now,
            "overrides": [f"make promote WITH={commit}"],
            "model": config.model.model_dump(mode="json", by_alias=True),
            "seed": config.seed,
            "data": hash_content(read_bytes(config.paths.train))[:8],
            "revision": git_revision(),
            "seconds": round(seconds, 1),
            "scores": decision.scores,
            "decision": "promoted" if decision.promoted else "kept",
            "reason": " ".join(decision.against),
            "sweep": None,
        },
    )
    if decision.promoted:
        head = "`make promote` compared both on rows that neither has learned from."
        found = "\n".join(f"- {line}" for line in decision.found)
        write_text(PROPOSAL, f"{head}\n\n{found}\n")


def commit_hash(commit: str) -> str:
    """Return the hash of a commit."""
    return git("rev-parse", commit).strip()


def judge_by(config: Config, file: Path) -> Config:
    """Return the configuration with a file of corrections.

    Raises PipelineError if there is no such file: the test rows alone must not decide
    where corrections were asked for.
    """
    if not file.exists():
        raise PipelineError(
            f"CORRECTIONS={file}: there is no such file. Name a file of rows with the "
            "columns of LabelledInstance."
        )
    return config.model_copy(update={"corrections": file})


def main(commit: str = "HEAD", corrections: str = "") -> None:
    """Promote the candidate or keep the model; without a winner, exit with 1."""
    try:
        config = compose()
        if corrections:
            config = judge_by(config, Path(corrections))
        decision = run(config, commit)
    except (ConfigError, PipelineError) as error:
        sys.exit(str(error))
    print("\n".join(decision.lines()))
    sys.exit(not decision.promoted)


if __name__ == "__main__":
    main(*sys.argv[1:])
