"""Adopt a table of your own: `make adopt DATA=claims.csv LABEL=outcome`.

The options come from the environment, where no shell interprets their values.
"""

import difflib
import math
import os
import re
import shutil
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
    EXAMPLES,
    agree,
    run_dvc,
    show_changes,
    undone_on_failure,
)
from adopt.infer import MOST_CLASSES, Options, Plan, describe, infer
from adopt.layout import Refusal
from adopt.names import say, split_names
from bench import report
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

from serving.contract import Task
from serving.fields import Kind, read_kinds, read_task

ROOT = Path(__file__).parent.parent
SOURCE = Path("data/source")
ADOPTED, FEEDBACK = CONF / "data/adopted.yaml", CONF / "data/feedback.yaml"
# What a run of the pipeline changes, beside what DVC brings back.
RESULTS = [
    Path("dvc.lock"),
    *(Path("reports") / name for name in ("config.yaml", "metrics.json")),
    *(Path("reports") / name for name in ("runs.jsonl", "bad-rows.txt")),
]

SAMPLES = 5
# Rows on which the families of models are compared.
COMPARED = 10_000
# How the names of variables begin that are for the programs below `make adopt`.
TOOLS = ("UV", "PYTHON")
# Floor of the gate, as a share of what cross-validation shows on average.
FLOOR = 0.8

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
Or which ONNX file to serve, and its labels in their order (none: it gives a number):
  make adopt MODEL=model.onnx LABELS=a,b,c
More:
  LOGITS=1          its numbers are logits: a softmax makes probabilities of them
  OUTPUT=name       the output to serve, where several could be it
  SAMPLE=file       rows that it was made for: .csv, .json, .jsonl or .npy"""

# A part of what make passes on: a blank within it follows a backslash.
PASSED = re.compile(r"(?:\\.|[^\s\\])+")


def check_names(variables: Mapping[str, str]) -> None:
    """Raise Refusal if `make adopt` was given a variable that is no option.

    make lists what it was given in MAKEFLAGS, behind the flags. A make that called this
    one lists its own variables there, too: those are for others.
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
    near = [difflib.get_close_matches(name.upper(), known, n=1) for name in wrong]
    meant = [
        f"{each[0]} in place of {name}"
        for name, each in zip(wrong, near, strict=True)
        if each
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
    """Return the command of these options, on the files that the service keeps."""
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
    kept = _find_kept(text, plan) if ADOPTED.exists() else set()
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


def _find_kept(text: str, plan: Plan) -> set[str]:
    """Return the fields that the contract has in the kind that is wanted.

    A value that may be missing is no other kind, and a number may be a category, unless
    an option says what the column is.
    """
    old = write.load_contract(text)
    try:
        kinds = {each.name: each.kind for each in read_kinds(old.Instance)}
        task = read_task(old.LabelledInstance)
    except ValueError:
        return set()
    kept = set()
    for each in plan.fields:
        if each.name not in kinds:
            continue
        is_text = each.kind is Kind.TEXT
        if not each.is_named or is_text == (kinds[each.name] is Kind.TEXT):
            kept.add(each.name)
    if task is plan.task:
        kept.add(LABEL)
    return kept


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
    for place in order.index:
        sample = {
            name: _shorten(name, value)
            for name, value in rows.loc[place, names].items()
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
    if isinstance(value, str):
        return write.shorten(name, value) if len(value) > 20 else value
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def choose_model(
    schema: Schema, rows: pd.DataFrame
) -> tuple[str, list[float], list[str]]:
    """Return the family that cross-validation prefers, its scores, and what to say."""
    names = ["linear", "boosting"]
    classes = 1 if schema.task is Task.REGRESSION else rows[LABEL].nunique()
    if classes > MOST_CLASSES or all(f.kind is Kind.TEXT for f in schema.fields):
        names = ["linear"]
    if len(rows) > COMPARED:
        rows = rows.sample(COMPARED, random_state=0).reset_index(drop=True)
    scores: dict[str, list[float]] = {}
    for name in names:
        if not (CONF / "model" / f"{name}.yaml").exists():
            continue
        family = compose([f"model={name}"]).model.create()
        try:
            with warnings.catch_warnings(action="ignore"):
                scores[name] = cross_validate(family.build(schema), schema, rows, 3, 0)
        except (PipelineError, ValueError):  # such as too few rows of a label
            continue
    if not scores:
        return names[-1], [], []
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


def make_files(
    plan: Plan, options: Options, command: str
) -> tuple[dict[Path, str], list[str]]:
    """Return the text of each file to write, and what to say. Raises Refusal."""
    contract, module = make_contract(plan, options)
    schema = make_schema(module.Instance, module.LabelledInstance)
    rows = read_rows(plan, options.data, module.LabelledInstance)
    if options.test:
        read_rows(plan, options.test, module.LabelledInstance)
    samples = draw_samples(schema, rows)
    path = place(options.data).as_posix()
    test_path = place(options.test).as_posix() if options.test else None
    texts = {
        CONTRACT: contract,
        EXAMPLES: write.write_examples(EXAMPLES.read_text(encoding="utf-8"), samples),
        ADOPTED: write.write_source(plan, path, test_path, command),
    }
    if FEEDBACK.exists():
        texts[FEEDBACK] = write.choose_source(FEEDBACK.read_text(encoding="utf-8"))
    if report.DOCUMENT.exists():
        document = report.DOCUMENT.read_text(encoding="utf-8")
        texts[report.DOCUMENT.relative_to(ROOT)] = report.mark_outdated(document)
    config, said = CONFIG.read_text(encoding="utf-8"), list[str]()
    is_again = ADOPTED.exists() and write.choose_data(config) == config
    same_task = is_again and LABEL in _find_kept(
        CONTRACT.read_text(encoding="utf-8"), plan
    )
    if same_task:
        texts[CONFIG] = config
    else:
        model, scores, said = choose_model(schema, rows)
        gate: dict[str, float] = {}
        floor = choose_floor(scores)
        if floor and not (plan.time or options.test) and len(rows) >= 200:
            gate[PRIMARY[schema.task]] = floor
            said.append(
                f"The gate is {PRIMARY[schema.task]} {floor}: a weaker model is not "
                "exported. Raise it in training/conf/config.yaml when you know more."
            )
        texts[CONFIG] = write.write_config(config, model, gate)
        if DEBUG.exists():
            debug = DEBUG.read_text(encoding="utf-8")
            texts[DEBUG] = write.write_gate(debug, {})
            if gate:
                bound = {PRIMARY[schema.task]: round(floor / 2, 2)}
                texts[DEBUG] = write.write_gate(debug, bound)
    removed = write.list_removed(CONTRACT.read_text(encoding="utf-8"), contract)
    if removed:
        said.append(f"Removed with the fields that they check: {', '.join(removed)}.")
    return texts, said


def place(path: Path) -> Path:
    """Return where a file of the user's will be: in data/source, which DVC watches."""
    own = path.resolve()
    if own.is_relative_to((ROOT / SOURCE).resolve()):
        return own.relative_to(ROOT.resolve())
    return SOURCE / own.name


def take(source: Path, target: Path) -> None:
    """Copy the user's file or directory to its place, unless it is there."""
    if source.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)


def adopt(variables: Mapping[str, str], tell: Callable[[str], None] = print) -> None:
    """Infer, show, ask, write and train. Raises Refusal or PipelineError."""
    options = read_options(variables)
    plan = infer(options)
    for line in describe(plan):
        tell(line)
    texts, said = make_files(plan, options, write_command(options))
    changes = show_changes(texts)
    tell("\n".join(["", *changes, ""]) if changes else "The files say so already.")
    for line in said:
        tell(line)
    copies = [
        (source, place(source)) for source in (options.data, options.test) if source
    ]
    for source, target in copies:
        if source.resolve() != target.resolve():
            tell(f"{source} is copied to {target}, which DVC versions.")
    if changes and not agree(variables):
        tell("Nothing was written.")
        return

    pointers = [target.with_name(target.name + ".dvc") for _, target in copies]
    new = [target for source, target in copies if source.resolve() != target.resolve()]
    ignored = SOURCE / ".gitignore"
    with undone_on_failure([*texts, *new, *pointers, ignored, *RESULTS]):
        for path, text in texts.items():
            write_text(path, text)
        for source, target in copies:
            take(source, target)
        run_dvc("add", "--quiet", *(str(target) for _, target in copies))
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
