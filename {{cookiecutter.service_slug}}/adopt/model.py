"""Adopt a model that was made elsewhere: `make adopt MODEL=model.onnx LABELS=a,b,c`."""

import csv
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adopt import write
from adopt.apply import (
    CONFIG,
    CONTRACT,
    DEBUG,
    DVC,
    EXAMPLES,
    LOCK,
    MODEL_SOURCE,
    agree,
    run_dvc,
    show_changes,
    undone_on_failure,
)
from adopt.convert import MODELS, Choices, convert, read_choices
from adopt.graph import Source, read_source
from adopt.infer import Field, Plan, write_choices
from adopt.layout import Refusal
from adopt.names import name_fields
from serving.contract import Task
from serving.fields import Kind
from serving.model import MODEL_FILE, SIDECAR_FILE
from training.dialect import Dialect
from training.files import write_text

# Figures of the model that was trained here before.
STALE = Path("reports/metrics.json")
SAMPLES = 5

STAGE = """\
# The model was made elsewhere, and adopted: `make train` (dvc repro) writes what is
# served of it. make adopt DATA=… takes the pipeline that trains from Git again.
stages:
  adopt:
    cmd: {command}
    deps:
      - adopt/__init__.py
      - adopt/convert.py
      - adopt/graph.py
      - adopt/layout.py
      - adopt/names.py
      - app/__init__.py
      - app/contract.py
      - app/examples.py
      - {source}
      - serving/__init__.py
      - serving/container.py
      - serving/contract.py
      - serving/fields.py
      - serving/model.py
      - serving/problems.py
      - serving/requests.py
      - serving/text.py
      - training/__init__.py
      - training/dialect.py
      - training/files.py
      - training/revision.py
      - training/schema.py
      - training/stage.py
      - training/tables.py
      - training/validation.py
      - training/values.py
    outs:
      - models/model.json:
          persist: true
      - models/model.onnx:
          persist: true
"""


def plan_fields(source: Source, columns: Sequence[str]) -> list[Field]:
    """Return the fields: one for each input, or for each column of the only one."""
    first, *others = source.inputs
    if first.width > 1 and len(columns) == first.width and not others:
        names = name_fields(columns)
        one = replace(first, width=1)
        return [
            Field(names[column], column, one.write_type(), f"a column of {first.name}")
            for column in columns
        ]
    names = name_fields([one.name for one in source.inputs])
    return [
        Field(names[one.name], one.name, one.write_type(), f"the input {one.name}")
        for one in source.inputs
    ]


def read_sample(path: Path) -> tuple[list[str], list[dict[str, Any]] | list[list[Any]]]:
    """Return the columns of a sample file, if it names them, and its first rows.

    Raises Refusal.
    """
    if not path.is_file():
        raise Refusal(f"There is no file {path}. Name another: SAMPLE=FILE.")
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open(encoding="utf-8-sig", newline="") as file:
                    reader = csv.DictReader(file)
                    rows = [row for row, _ in zip(reader, range(SAMPLES))]
                    columns = list(reader.fieldnames or ())
                    if len({*columns}) < len(columns):
                        twice = max(columns, key=columns.count)
                        raise ValueError(f"two columns are called {twice!r}")
                    return columns, rows
            case ".npy":
                array = np.load(path, allow_pickle=False)
                return [], np.atleast_2d(array)[:SAMPLES].tolist()
            case ".jsonl" | ".ndjson":
                lines = path.read_text(encoding="utf-8-sig").splitlines()
                rows = [json.loads(line) for line in lines[:SAMPLES] if line.strip()]
            case ".json":
                given = json.loads(path.read_text(encoding="utf-8-sig"))
                if isinstance(given, dict):
                    given = given.get("instances", [given])
                rows = given[:SAMPLES]
            case _:
                raise Refusal(
                    f"SAMPLE: {path} is none of .csv, .json, .jsonl and .npy. Save a "
                    "few rows as one of them."
                )
    except (ValueError, TypeError, EOFError, RecursionError, csv.Error) as error:
        raise Refusal(
            f"SAMPLE: {path} cannot be read: {error}. Save a few rows again, a CSV "
            "file in UTF-8."
        ) from None
    if rows and all(isinstance(row, dict) for row in rows):
        return list(rows[0]), rows
    if rows and all(isinstance(row, list) for row in rows):
        return [], rows
    raise Refusal(f"SAMPLE: {path} has no rows: objects, or lists of numbers.")


def make_samples(
    source: Source, fields: Sequence[Field], rows: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return the instances of a sample, or made up. Raises Refusal."""
    if not rows:
        return [
            {field.name: _make_up(field, number) for field in fields}
            for number in (0.0, 0.5, 1.0)
        ]
    samples = []
    for row in rows:
        if isinstance(row, list):
            width = source.inputs[0].width
            if len(source.inputs) > 1 or len(row) != width:
                raise Refusal(
                    f"SAMPLE has rows of {len(row)} numbers; the model reads "
                    f"{_list_inputs(source)}. Give it rows of those."
                )
            row = {fields[0].column: row if width > 1 else row[0]}
        missing = [field.column for field in fields if field.column not in row]
        if missing:
            raise Refusal(
                f"SAMPLE has the columns {', '.join(map(str, row))}; the model reads "
                f"{_list_inputs(source)}. Give it a column for each input, or for each "
                "number of the only input, in the order of the model, and no others."
            )
        samples.append(
            {field.name: _as_type(field, row[field.column]) for field in fields}
        )
    return samples


def _list_inputs(source: Source) -> str:
    return ", ".join(f"{one.name} ({one.width} number(s))" for one in source.inputs)


def _as_type(field: Field, value: Any) -> Any:
    """Return a value as the contract takes it: 3 as 3.0, 007 of a text as it is.

    A cell of a CSV file is a text: what is no text is read as JSON. Raises Refusal.
    """
    if "str" in field.type:
        return value if isinstance(value, str) else str(value)
    try:
        if isinstance(value, str):
            value = json.loads(value.strip().lower())
        if field.kind is Kind.VECTOR and not isinstance(value, list):
            raise TypeError
        if "float" in field.type and isinstance(value, list):
            return [float(one) for one in value]
        if "float" in field.type and isinstance(value, int):
            return float(value)
        if field.type == "bool" and not isinstance(value, bool):
            return {0: False, 1: True}[value]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise Refusal(
            f"SAMPLE has {str(value)[:80]!r} in the column {field.column}, which is "
            f"{field.said} and takes {field.type}. Correct it, or leave the row out."
        ) from None
    return value


def _make_up(field: Field, number: float) -> Any:
    """Return a value of a field's type, from a number from 0 to 1."""
    if field.kind is Kind.TEXT:
        return "an example"
    if field.kind is Kind.FLAG:
        return number > 0
    value = int(number * 2) if "int" in field.type else number
    if field.kind is not Kind.VECTOR:
        return value
    width = int(field.type.rpartition("=")[2].rstrip(")]"))
    return [value] * width


def adopt_model(
    variables: Mapping[str, str], tell: Callable[[str], None] = print
) -> None:
    """Read, prove, show, ask and write. Raises Refusal or PipelineError."""
    path = Path(variables.get("MODEL", "")).expanduser()
    source = read_source(path)
    choices = complete_choices(source, read_choices(variables), path, tell)
    columns: list[str] = []
    rows: Sequence[Any] = []
    if sample := variables.get("SAMPLE", ""):
        columns, rows = read_sample(Path(sample).expanduser())
    fields = plan_fields(source, columns)
    samples = make_samples(source, fields, rows)

    texts, module = make_files(fields, samples, choices)
    _, output = convert(path, choices, module.Instance, samples)

    what = "a number"
    if choices.labels:
        what = f"probabilities of {len(choices.labels)} labels"
    tell(f"{path}: {_list_inputs(source)} → {output.name}, {what}.")
    if not rows:
        tell("The samples are made up: SAMPLE=FILE gives app/examples.py real ones.")
    tell("\n".join(["", *show_changes(texts), ""]))
    tell(f"{path} is copied to {MODEL_SOURCE}, which DVC versions.")
    if STALE.exists():
        tell(f"{STALE} is removed: its figures are those of another model.")
    if not agree(variables):
        tell("Nothing was written.")
        return

    pointer = MODEL_SOURCE.with_name(MODEL_SOURCE.name + ".dvc")
    made = [MODELS / MODEL_FILE, MODELS / SIDECAR_FILE]
    ignored = MODEL_SOURCE.with_name(".gitignore")
    kept = [*texts, MODEL_SOURCE, pointer, ignored, LOCK, STALE, *made]
    content = path.read_bytes()
    with undone_on_failure(kept):
        for name, text in texts.items():
            write_text(name, text)
        MODEL_SOURCE.write_bytes(content)
        STALE.unlink(missing_ok=True)
        LOCK.unlink(missing_ok=True)  # it has stages that are gone
        run_dvc("add", "--quiet", str(MODEL_SOURCE))
        run_dvc("repro")
    finish(tell)


def complete_choices(
    source: Source, choices: Choices, path: Path, tell: Callable[[str], None]
) -> Choices:
    """Return the choices with the labels that the file names. Raises Refusal."""
    named = tuple(source.classes)
    if not named:
        return choices
    if not choices.labels:
        tell(f"The labels, as the file names them: {', '.join(named)}.")
        return replace(choices, labels=named)
    is_text = not all(label.removeprefix("-").isdigit() for label in named)
    # Numbers may get names, but not those of each other.
    is_fixed = is_text or {*named} == {*choices.labels}
    if len(named) != len(choices.labels) or is_fixed and named != choices.labels:
        raise Refusal(
            f"LABELS are {', '.join(choices.labels)}, but {path} names "
            f"{', '.join(named)}, in this order. Leave LABELS out, or name them so."
        )
    return choices


def make_files(
    fields: Sequence[Field], samples: Sequence[Mapping[str, Any]], choices: Choices
) -> tuple[dict[Path, str], ModuleType]:
    """Return the text of each file to write, and the contract. Raises Refusal."""
    kind, task = "float", Task.REGRESSION
    if choices.labels:
        kind, task = write_choices(choices.labels), Task.CLASSIFICATION
    label = Field("label", "label", kind, "the output")
    plan = Plan(Dialect(), task, 0, fields, label)
    # The model has its columns in this order.
    text = CONTRACT.read_text(encoding="utf-8")
    contract = write.write_contract(text, plan, set(), in_order=True)
    command = ["python", "-m", "adopt.convert", MODEL_SOURCE.as_posix()]
    line = shlex.join([*command, *choices.arguments])
    # DVC takes ${ for the start of a reference.
    shown = json.dumps(line.replace("${", "\\${"), ensure_ascii=False)
    texts = {
        CONTRACT: contract,
        EXAMPLES: write.write_examples(EXAMPLES.read_text(encoding="utf-8"), samples),
        DVC: STAGE.format(command=shown, source=MODEL_SOURCE.as_posix()),
    }
    for path in (CONFIG, DEBUG):  # the gate is one of the task before
        if path.exists() and task is Task.REGRESSION:
            texts[path] = write.write_gate(path.read_text(encoding="utf-8"), {})
    return texts, write.load_contract(contract)


def finish(tell: Callable[[str], None]) -> None:
    """Say what comes next."""
    tell("\nThe model is served as it was given: nothing was trained or measured here.")
    tell("Next:")
    tell("  make run       # serve it; in another terminal: make ask")
    tell("  make bench     # what one pod carries: reports/capacity.json is of another")
    tell("  git add --all && git commit -m 'Adopt a model' && make push")
