"""Contracts that nobody has written: each trains, keeps parity, serves, or is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, create_model

from app import contract
from serving.contract import Contract
from serving.fields import Kind, read_kinds
from serving.model import Model, ModelError
from tests.conftest import compose_config
from training import evaluate, export, ingest, prepare, train
from training.stage import PipelineError

ROWS = 80
Three = Annotated[list[float], Field(min_length=3, max_length=3)]
FLOATS = st.floats(-1e6, 1e6, width=32)
WORDS = st.sampled_from(["red", "blue", "green", "dark", "bright"])
# Of each kind: types, and values that they take.
KINDS: dict[Kind, tuple[Any, st.SearchStrategy[Any]]] = {
    Kind.TEXT: (str, st.lists(WORDS, min_size=1, max_size=4).map(" ".join)),
    Kind.CATEGORY: (Literal["a", "b", "c"], st.sampled_from(["a", "b", "c"])),
    Kind.NUMBER: (float, FLOATS),
    Kind.FLAG: (bool, st.booleans()),
    Kind.VECTOR: (Three, st.lists(FLOATS, min_size=3, max_size=3)),
}
LABELS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.sampled_from(["yes", "no"])),
    (Literal["x", "y", "z"], st.sampled_from(["x", "y", "z"])),
    (bool, st.booleans()),
    (float, st.floats(-1e3, 1e3, width=32)),
    (Annotated[int, Field(ge=0)], st.integers(0, 100)),
]
FAMILIES = {
    True: ["linear", "boosting"],
    False: ["linear", "boosting", "bayes", "sgd"],
}


@st.composite
def tasks(draw: st.DrawFn) -> tuple[type[Contract], type[Contract], pd.DataFrame, str]:
    """An instance, its labelled row, rows of them, and a family that can do the task."""
    fields: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for number, kind in enumerate(draw(st.lists(st.sampled_from(Kind), min_size=1, max_size=6))):
        type_, values = KINDS[kind]
        name = f"field_{number}"
        optional = draw(st.booleans())
        fields[name] = (type_ | None, None) if optional else (type_, ...)
        column = draw(st.lists(values, min_size=ROWS, max_size=ROWS))
        if kind is Kind.TEXT:  # repeated ones would be dropped
            column = [f"{text} case{place}" for place, text in enumerate(column)]
        gaps = draw(st.sets(st.integers(0, ROWS - 1), max_size=9)) if optional else ()
        columns[name] = [None if n in gaps else one for n, one in enumerate(column)]
    type_, values = draw(st.sampled_from(LABELS))
    columns["label"] = draw(st.lists(values, min_size=ROWS, max_size=ROWS))
    is_regression = type_ not in (str, bool) and "Literal" not in str(type_)
    instance = create_model("Instance", __base__=Contract, **fields)
    labelled = create_model("LabelledInstance", __base__=instance, label=(type_, ...))
    family = draw(st.sampled_from(FAMILIES[is_regression]))
    return instance, labelled, pd.DataFrame(columns), family


@given(tasks())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_a_contract_trains_keeps_parity_and_serves(task: Any) -> None:
    instance, labelled, rows, family = task
    with (
        TemporaryDirectory() as directory,
        patch.object(contract, "Instance", instance),
        patch.object(contract, "LabelledInstance", labelled),
        patch.object(ingest, "LabelledInstance", labelled),
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

        others = {name: (float, ...) for name in ("another", "field_0")}
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
