"""Adopt a table: `make adopt DATA=claims.csv LABEL=outcome`; or a model: `MODEL=`.

The options come from the environment, where no shell interprets their values.
"""

import difflib
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from adopt import write
from adopt.apply import (
    CONF,
    CONFIG,
    CONTRACT,
    DEBUG,
    DVC,
    EXAMPLES,
    LOCK,
    MODEL_SOURCE,
    ROOT,
    SOURCE,
    agree,
    copy,
    find_pipeline,
    place,
    run_dvc,
    show_changes,
    stop_on_signals,
    undone_on_failure,
)
from adopt.infer import MOST_CLASSES, Options, Plan, describe, infer
from adopt.layout import Refusal
from adopt.names import say, show, split_names
from bench import report
from serving.contract import Task
from serving.fields import Kind
from training.columns import make_instance
from training.dialect import read_cells, translate
from training.files import read_json, write_text
from training.gate import PRIMARY
from training.ingest import validate
from training.schema import LABEL, Schema, make_schema
from training.stage import PipelineError, compose
from training.train import cross_validate
from training.validation import Validator, read_columns
from training.values import ConfigError

ADOPTED, FEEDBACK = CONF / "data/adopted.yaml", CONF / "data/feedback.yaml"
# What a run of the pipeline changes, beside what DVC brings back.
RESULTS = [
    LOCK,
    *(Path("reports") / name for name in ("config.yaml", "metrics.json")),
    *(Path("reports") / name for name in ("runs.jsonl", "bad-rows.txt")),
]

SAMPLES = 5
# Rows on which the families of models are compared.
COMPARED = 10_000
# Prefixes of the variables that are for the programs that `make adopt` runs.
TOOLS = ("UV", "PYTHON")
# Floor of the gate, as a share of the mean score of cross-validation, and the rows from
# which on there is one.
FLOOR, FEWEST_TO_GATE = 0.8, 200

USAGE = """\
Say which file to learn from, and which of its columns to predict:
  make adopt DATA=claims.csv LABEL=outcome
More, each with the names of columns as they are in the file, separated by commas:
  TASK=classification|regression   what to predict, if the guess is wrong
  TIME=column       split by time: the latest rows are the test
  GROUP=column      rows of one group, such as a customer, are never split
  DROP=columns      leave out
  TEXT=columns      read as text: words count, not the whole value
  KEEP=columns      take, although they look like identifiers, persons or the label
  TEST=file         test on the rows of this file
  DECIMAL=,         the decimal sign of the numbers, if nothing tells it
  YES=1             do not ask
Or which ONNX file to serve, and its labels in their order, or a file with one on each
line (none: it gives a number):
  make adopt MODEL=model.onnx LABELS=a,b,c
More:
  LOGITS=1          its numbers are logits: a softmax makes probabilities of them
  OUTPUT=name       the output to serve, where several could be it
  SAMPLE=file       rows that it was made for: .csv, .json, .jsonl or .npy"""

# A variable in MAKEFLAGS: make writes a backslash before a blank in its value.
PASSED = re.compile(r"(?:\\.|[^\s\\])+")


def check_names(variables: Mapping[str, str]) -> None:
    """Raise Refusal if `make adopt` was given a variable that is no option.

    make lists them in MAKEFLAGS, behind the flags. If another make called this one, its
    variables are there, too, and nothing is checked.
    """
    if variables.get("MAKELEVEL") != "1":
        return
    passed = PASSED.findall(f" {variables.get('MAKEFLAGS', '')}".partition(" -- ")[2])
    given = {re.split("[:+?!]*=", each)[0] for each in passed}
    of_table, _, of_model = USAGE.partition("\nOr ")
    shown = of_model if variables.get("MODEL") else of_table
    known = {"YES", *re.findall("([A-Z]+)=", shown)}
    wrong = sorted(name for name in given - known if not name.startswith(TOOLS))
    if not wrong:
        return
    meant = [
        f"{near} in place of {name}"
        for name in wrong
        for near in difflib.get_close_matches(name.upper(), known, n=1)
    ]
    hint = f" Did you mean {', '.join(meant)}?" if meant else ""
    raise Refusal(
        f"make adopt takes no {', '.join(wrong)}.{hint} The options are: "
        f"{', '.join(sorted(known))}. A variable for another program stands before "
        "make: NAME=value make adopt …"
    )


def read_options(variables: Mapping[str, str]) -> Options:
    """Return the options. Raises Refusal with the usage if one is missing."""
    data, label = variables.get("DATA", ""), variables.get("LABEL", "")
    if not data or not label:
        raise Refusal(USAGE)
    test = variables.get("TEST", "")
    return Options(
        Path(data).expanduser(),
        label,
        task=variables.get("TASK", "").strip().lower(),
        time=variables.get("TIME", ""),
        group=variables.get("GROUP", ""),
        drop=split_names(variables.get("DROP", "")),
        text=split_names(variables.get("TEXT", "")),
        keep=split_names(variables.get("KEEP", "")),
        test=Path(test).expanduser() if test else None,
        decimal=variables.get("DECIMAL", ""),
    )


def write_command(options: Options) -> str:
    """Return the command of these options, on the copies in data/source."""
    values = {
        "DATA": [place(options.data).as_posix()],
        "LABEL": [options.label],
        "TASK": [options.task],
        "TIME": [options.time],
        "GROUP": [options.group],
        "DROP": options.drop,
        "TEXT": options.text,
        "KEEP": options.keep,
        "TEST": [place(options.test).as_posix()] if options.test else [],
        "DECIMAL": [options.decimal],
    }
    given = [say(name, *some) for name, some in values.items() if any(some)]
    return " ".join(["make adopt", *given])


def read_rows(plan: Plan, path: Path, contract: Any) -> pd.DataFrame:
    """Return the rows as the pipeline reads them. Raises PipelineError."""
    fields, _ = read_columns(contract)
    chunks = (
        translate(cells, plan.dialect, fields)[0]
        for cells in read_cells(path, plan.dialect)
    )
    return validate(chunks, contract, str(path), compose().paths.bad_rows)


def make_contract(plan: Plan, options: Options) -> tuple[str, ModuleType]:
    """Return the new contract, as text and as a module.

    What `make adopt` wrote before, and a person may have edited, stays if the rows keep
    to it. Raises Refusal.
    """
    text = CONTRACT.read_text(encoding="utf-8")
    kept = write.find_kept(text, plan) if ADOPTED.exists() else set()
    while True:
        written = write.write_contract(text, plan, kept)
        module = write.load_contract(written)
        if not kept:
            return written, module
        broken = {
            name
            for path in filter(None, (options.data, options.test))
            for name in _find_broken(plan, path, module.LabelledInstance)
        }
        if not broken & kept:
            return written, module
        kept -= broken


def _find_broken(plan: Plan, path: Path, contract: Any) -> set[str]:
    """Return the fields with values that the contract refuses."""
    fields, _ = read_columns(contract)
    validator = Validator(contract)
    broken: set[str] = set()
    for cells in read_cells(path, plan.dialect):
        chunk, _ = translate(cells, plan.dialect, fields)
        for mistake in validator.judge(chunk)[1]:
            broken |= set(re.findall(r", column (\w+): ", mistake))
    return broken


def draw_samples(schema: Schema, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a few instances: of different labels, or from the smallest to the largest.

    Complete and short rows come first.
    """
    names = [field.name for field in schema.fields]
    texts = [field.name for field in schema.of_kind(Kind.TEXT)]
    order = pd.DataFrame(
        {
            "gaps": rows[names].isna().sum(axis=1),
            "length": sum(rows[name].str.len().fillna(0) for name in texts),
        },
        index=rows.index,
    )
    if schema.task is Task.REGRESSION:
        part = pd.qcut(rows[LABEL].rank(method="first"), SAMPLES, labels=False)
    else:
        part = rows[LABEL]
    order["part"] = part
    order = order.sort_values(["gaps", "length"], kind="stable")
    order["turn"] = order.groupby("part").cumcount()
    order = order.sort_values("turn", kind="stable")
    samples: list[dict[str, Any]] = []
    for number in order.index:
        sample = {
            name: _shorten(name, value) if name in texts else _to_plain(value)
            for name, value in rows.loc[number, names].items()
            if not _is_missing(value)
        }
        made = make_instance(schema, sample)
        shown = made.model_dump(mode="json", exclude_none=True)
        if shown not in samples:
            samples.append(shown)
        if len(samples) == SAMPLES:
            break
    return samples


def _is_missing(value: Any) -> bool:
    return (
        value is None or value is pd.NA or isinstance(value, float) and value != value
    )


def _shorten(name: Any, value: Any) -> Any:
    return write.shorten(name, value) if len(value) > 20 else value


def _to_plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def choose_model(
    schema: Schema, rows: pd.DataFrame
) -> tuple[str, list[float], list[str]]:
    """Return the family that cross-validation prefers, its scores, and what to say.

    The family is empty where the service has none of those that are compared.
    """
    names = ["linear", "boosting"]
    classes = 1 if schema.task is Task.REGRESSION else rows[LABEL].nunique()
    if classes > MOST_CLASSES or all(f.kind is Kind.TEXT for f in schema.fields):
        names = ["linear"]
    names = [name for name in names if (CONF / "model" / f"{name}.yaml").exists()]
    if len(rows) > COMPARED:
        rows = rows.sample(COMPARED, random_state=0).reset_index(drop=True)
    scores: dict[str, list[float]] = {}
    for name in names:
        family = compose([f"model={name}"]).model.create()
        try:
            with warnings.catch_warnings(action="ignore"):
                scores[name] = cross_validate(family.build(schema), schema, rows, 3, 0)
        except (PipelineError, ValueError):  # such as too few rows of a label
            continue
    if not scores:
        return names[-1] if names else "", [], []
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    best = max(means, key=lambda name: means[name])
    shown = ", ".join(f"{name} {score:.3f}" for name, score in means.items())
    metric = PRIMARY[schema.task]
    said = f"The model is {best}: {metric} in cross-validation: {shown}."
    return best, scores[best], [said]


def choose_floor(scores: Sequence[float]) -> float:
    """Return the floor of the gate for the scores of folds; 0 is none.

    The test rows are one more sample: a floor within three standard deviations of the
    mean would refuse a model that is as good as expected.
    """
    if not scores:
        return 0.0
    mean, deviation = float(np.mean(scores)), float(np.std(scores, ddof=1))
    floor = min(FLOOR * mean, mean - 3 * deviation)
    return max(0.0, math.floor(floor * 100) / 100)


def make_files(plan: Plan, options: Options) -> tuple[dict[Path, str], list[str]]:
    """Return the text of each file to write, and what to say. Raises Refusal."""
    contract, module = make_contract(plan, options)
    schema = make_schema(module.Instance, module.LabelledInstance)
    rows = read_rows(plan, options.data, module.LabelledInstance)
    if options.test:
        tested = read_rows(plan, options.test, module.LabelledInstance)
        if plan.task is Task.CLASSIFICATION:
            check_test_labels(rows[LABEL], tested[LABEL], options.test)
    samples = draw_samples(schema, rows)
    path = place(options.data).as_posix()
    test_path = place(options.test).as_posix() if options.test else None
    texts = {
        CONTRACT: contract,
        EXAMPLES: write.write_examples(EXAMPLES.read_text(encoding="utf-8"), samples),
        ADOPTED: write.write_source(plan, path, test_path, write_command(options)),
    }
    if FEEDBACK.exists():
        texts[FEEDBACK] = write.choose_source(FEEDBACK.read_text(encoding="utf-8"))
    if report.DOCUMENT.exists():
        document = report.DOCUMENT.read_text(encoding="utf-8")
        texts[report.DOCUMENT.relative_to(ROOT)] = report.mark_outdated(document)
    before, said = CONTRACT.read_text(encoding="utf-8"), list[str]()
    if not _is_same_task(plan, before):
        configs, said = choose_configs(plan, options, schema, rows)
        texts |= configs
    if removed := write.list_removed(before, contract):
        said.append(f"Removed with the fields that they check: {', '.join(removed)}.")
    return texts, said


def check_test_labels(
    learned: "pd.Series[str]", tested: "pd.Series[str]", path: Path
) -> None:
    """Raise Refusal if a label of the rows to test on is learned from no row."""
    unknown = tested[~tested.isin(set(learned))].value_counts()
    if len(unknown):
        shown = show(f"{label!r} ({count} rows)" for label, count in unknown.items())
        raise Refusal(
            f"TEST: {path} has labels that no row of DATA has: {shown}. They cannot be "
            "learned: add rows with them to DATA, or remove these."
        )


def _is_same_task(plan: Plan, contract: str) -> bool:
    """Return whether the service learns from an adopted table with the same task."""
    config = CONFIG.read_text(encoding="utf-8")
    is_again = ADOPTED.exists() and write.choose_data(config) == config
    return is_again and LABEL in write.find_kept(contract, plan)


def choose_configs(
    plan: Plan, options: Options, schema: Schema, rows: pd.DataFrame
) -> tuple[dict[Path, str], list[str]]:
    """Return the configs with a model and a gate for these rows, and what to say."""
    model, scores, said = choose_model(schema, rows)
    metric, floor = PRIMARY[schema.task], choose_floor(scores)
    gate: dict[str, float] = {}
    # Cross-validation says little of the latest rows, of a file apart, or of few rows.
    if floor and not (plan.time or options.test) and len(rows) >= FEWEST_TO_GATE:
        gate[metric] = floor
        said.append(
            f"The gate is {metric} {floor}: a weaker model is not exported. Raise it "
            "in training/conf/config.yaml when you know more."
        )
    config = CONFIG.read_text(encoding="utf-8")
    texts = {CONFIG: write.write_config(config, model, gate)}
    if DEBUG.exists():
        bounds = {name: round(bound / 2, 2) for name, bound in gate.items()}
        debug = DEBUG.read_text(encoding="utf-8")
        texts[DEBUG] = write.write_gate(debug, bounds)
    return texts, said


def adopt(variables: Mapping[str, str], tell: Callable[[str], None] = print) -> None:
    """Infer, show, ask, write and train. Raises Refusal or PipelineError."""
    options = read_options(variables)
    known = ADOPTED.read_text(encoding="utf-8") if ADOPTED.exists() else ""
    plan = infer(options, write.read_names(known))
    for line in describe(plan):
        tell(line)
    texts, said = make_files(plan, options)
    pipeline = find_pipeline()
    if pipeline != DVC.read_text(encoding="utf-8"):
        texts[DVC] = pipeline
        said.append(
            f"{DVC} is as it was before a model was adopted. {MODEL_SOURCE} is no "
            f"longer used: git rm {MODEL_SOURCE}.dvc removes it."
        )
    changes = show_changes(texts)
    tell("\n".join(["", *changes, ""]) if changes else "The files say so already.")
    for line in said:
        tell(line)
    sources = [source for source in (options.data, options.test) if source]
    targets = {source: place(source) for source in sources}
    copies = {x: to for x, to in targets.items() if x.resolve() != to.resolve()}
    for source, target in copies.items():
        tell(f"{source} is copied to {target}, which DVC versions.")
    if changes and not agree(variables):
        tell("Nothing was written.")
        return

    pointers = [to.with_name(f"{to.name}.dvc") for to in targets.values()]
    written = [*texts, *copies.values(), *pointers, SOURCE / ".gitignore", *RESULTS]
    with undone_on_failure(written):
        for path, text in texts.items():
            write_text(path, text)
        for source, target in copies.items():
            copy(source, target)
        if DVC in texts:
            LOCK.unlink(missing_ok=True)  # it has a stage that is gone
        run_dvc("add", "--quiet", *map(str, targets.values()))
        run_dvc("repro")
    finish(plan, tell)


def finish(plan: Plan, tell: Callable[[str], None]) -> None:
    """Say how good the model is, and what comes next."""
    metrics, metric = read_json(Path("reports/metrics.json")), PRIMARY[plan.task]
    baseline = metrics.get(f"baseline_{metric}")
    beside = f" (without a model {baseline:.3f})" if baseline is not None else ""
    tell(f"\n{metric} on held-out rows: {metrics[metric]:.3f}{beside}.")
    tell("Next:")
    tell("  make run       # serve it; in another terminal: make ask")
    tell("  make report    # how good it is, and where it fails")
    tell("  make docs      # the figures of the model card")
    tell("  git add --all && git commit -m 'Adopt a table' && make push")
    tell("docs/capacity.md describes another model: make bench measures this one.")
    left = [
        path
        for path in (CONF / "data/intents.yaml", CONF / "experiment/chinese.yaml")
        if path.exists()
    ]
    if left:
        tell(
            "The data that the service came with is no longer used. To remove it: git "
            "rm training/intents.py training/conf/data/intents.yaml training/conf/"
            "experiment/chinese.yaml data/source/slots.yaml; remove the lines of "
            "training/intents.py in dvc.yaml, and of hassil and home-assistant-intents "
            "in pyproject.toml; then make setup train."
        )


def main() -> int:
    """Adopt a table and return the exit code."""
    stop_on_signals()
    try:
        check_names(os.environ)
        if os.environ.get("MODEL"):
            from adopt.model import adopt_model

            adopt_model(os.environ)
        else:
            adopt(os.environ)
    except (Refusal, PipelineError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. All files are as they were.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
