"""Generated contracts: each trains, keeps parity and serves."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from unittest.mock import patch

import pandas as pd
import pytest
from app import contract
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import Field, create_model
from training import evaluate, export, ingest, prepare, train
from training.stage import PipelineError

from serving.contract import Contract, Task
from serving.fields import Kind, read_kinds, read_task
from serving.model import Model, ModelError
from tests.conftest import compose_config

ROWS = 80
Three = Annotated[list[float], Field(min_length=3, max_length=3)]
CHOICES = ["a", "b", "c"]
WORDS = ["red", "blue", "green", "dark", "bright"]
# Of each kind: a type, and what makes a value of it.
KINDS: dict[Kind, tuple[Any, Callable[[Random], Any]]] = {
    Kind.TEXT: (str, lambda rng: " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))),
    Kind.CATEGORY: (Literal["a", "b", "c"], lambda rng: rng.choice(CHOICES)),
    Kind.NUMBER: (float, lambda rng: rng.uniform(-1, 1) * 10 ** rng.randint(-3, 6)),
    Kind.FLAG: (bool, lambda rng: rng.random() < 0.5),
    Kind.VECTOR: (Three, lambda rng: [rng.gauss(0, 10) for _ in range(3)]),
}
LABELS: list[tuple[Any, Callable[[Random], Any]]] = [
    (str, lambda rng: rng.choice(["yes", "no"])),
    (Literal["a", "b", "c"], lambda rng: rng.choice(CHOICES)),
    (bool, lambda rng: rng.random() < 0.5),
    (float, lambda rng: rng.gauss(0, 100)),
    (Annotated[int, Field(ge=0)], lambda rng: rng.randint(0, 100)),
]


@st.composite
def tasks(draw: st.DrawFn) -> tuple[type[Contract], type[Contract], pd.DataFrame, str]:
    """An instance, its labelled row, rows of them, and a family that fits the task."""
    kinds = draw(st.lists(st.sampled_from(Kind), min_size=1, max_size=6))
    optional = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    label, make_label = draw(st.sampled_from(LABELS))
    rng = Random(draw(st.integers(0, 10_000)))
    fields: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for number, (kind, may_be_missing) in enumerate(zip(kinds, optional)):
        type_, make = KINDS[kind]
        name = f"field_{number}"
        fields[name] = (type_ | None, None) if may_be_missing else (type_, ...)
        column = [make(rng) for _ in range(ROWS)]
        if kind is Kind.TEXT:  # repeated ones would be dropped
            column = [f"{text} case{place}" for place, text in enumerate(column)]
        gaps = set(rng.sample(range(ROWS), 9)) if may_be_missing else set()
        columns[name] = [None if n in gaps else one for n, one in enumerate(column)]
    columns["label"] = [make_label(rng) for _ in range(ROWS)]
    instance = create_model("Instance", __base__=Contract, **fields)
    labelled = create_model("LabelledInstance", __base__=instance, label=(label, ...))
    is_regression = read_task(labelled) is Task.REGRESSION
    families = ["linear", "boosting"] + ([] if is_regression else ["bayes", "sgd"])
    return instance, labelled, pd.DataFrame(columns), draw(st.sampled_from(families))


@given(tasks())
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a failing example is small enough
)
def test_a_contract_trains_keeps_parity_and_serves(task: Any) -> None:
    instance, labelled, rows, family = task
    with (
        TemporaryDirectory() as directory,
        patch.object(contract, "Instance", instance),
        patch.object(contract, "LabelledInstance", labelled),
    ):
        data = Path(directory, "rows.parquet")
        rows.to_parquet(data)
        source = "{_target_: training.sources.table, path: '%s'}" % data
        chosen = [f"model={family}", "~data", f"+data={source}", "~gate", "+gate={}"]
        if family == "boosting":
            chosen.append("model.trees=5")
        config = compose_config(Path(directory), *chosen, "validation.folds=2")
        ingest.run(config)
        prepare.run(config)
        train.run(config)
        try:  # labels are random, so that guessing may be better
            evaluate.run(config)
        except PipelineError as error:
            assert "is not exported" in str(error)
        export.run(config)

        model = Model.load(config.paths.model, instance)
        for row in records(rows, instance):
            (answer,) = model.answer([instance.model_validate_json(row)])
            assert answer.value is not None or answer.label in model.labels

        others: dict[str, Any] = {"another": (float, ...), "field_0": (float, ...)}
        changed = create_model("Changed", __base__=Contract, **others)
        with pytest.raises(ModelError, match="another"):
            Model.load(config.paths.model, changed)
    assert [field.name for field in read_kinds(instance)] == list(instance.model_fields)


def records(rows: pd.DataFrame, instance: type[Contract]) -> Iterator[str]:
    """The first rows as clients send them."""
    names = list(instance.model_fields)
    few = rows[names].head(5).astype(object)
    for record in few.where(few.notna(), None).to_dict("records"):
        yield json.dumps(record)
