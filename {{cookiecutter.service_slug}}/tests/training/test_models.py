"""From the kinds of fields to a model: families, splits, scores and the two gates."""

import json
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    computed_field,
    create_model,
)

from app.contract import Instance
from serving.contract import TENTHS, Contract, Task
from serving.fields import Fields, Kind, dump_fields
from serving.model import MODEL_FILE, SIDECAR_FILE, Model
from serving.testing import wait_until
from tests.training.conftest import CHOICES, Compose
from tests.training.toy import BOTH, JUDGED, MEASURED, Visit, judged, measured
from training import evaluate, export, models, prepare, splits, train
from training.columns import (
    make_instance,
    read_columns,
    read_inputs,
    read_labels,
    to_arrays,
)
from training.gate import check_gate, find_failures
from training.progress import show_progress
from training.rows import read_rows
from training.schema import Schema, make_schema, read_schema
from training.stage import PipelineError
from training.values import Config, Gate

MODELS = [choice for choice in CHOICES if choice.startswith("model=")]
TEXTS = (Kind.TEXT, Kind.CATEGORY)
LINEAR = models.linear("words", 1, 30)


def rows_of(schema: Schema) -> pd.DataFrame:
    """Rows of one of the two toy contracts."""
    return judged() if schema is JUDGED else measured()


@pytest.mark.parametrize("choice", MODELS)
@pytest.mark.parametrize("schema", BOTH, ids=["judged", "measured"])
def test_each_family_fits_and_exports_every_kind_of_field_or_names_another(
    configure: Compose, choice: str, schema: Schema
) -> None:
    family, rows = configure(choice).model.create(), rows_of(schema)
    if schema.task is Task.REGRESSION and family.regressor is None:
        with pytest.raises(PipelineError, match="`label`.*Choose model=linear"):
            family.build(schema)
        return

    model = train.fit(family.build(schema), schema, rows)

    export.check_parity(model, schema, export.convert(model, schema), rows, 1e-5)


@pytest.mark.parametrize("choice", MODELS)
def test_each_family_fits_and_exports_the_contract_of_the_service(
    trained: Config, configure: Compose, choice: str
) -> None:
    schema, family = read_schema(), configure(choice).model.create()
    if schema.task is Task.REGRESSION and family.regressor is None:
        pytest.skip(f"{choice} predicts no numbers")
    rows = read_rows(trained.paths.train)

    model = train.fit(family.build(schema), schema, rows)

    export.check_parity(model, schema, export.convert(model, schema), rows, 1e-5)


@pytest.mark.parametrize("choice", MODELS)
def test_each_family_takes_fields_that_no_row_has(
    configure: Compose, choice: str
) -> None:
    family, rows = configure(choice).model.create(), judged()
    rows = rows.assign(ward=None, age=None, scan=None)

    model = train.fit(family.build(JUDGED), JUDGED, rows)

    export.check_parity(model, JUDGED, export.convert(model, JUDGED), rows, 1e-5)


def test_gaps_are_read_alike_by_training_and_serving() -> None:
    rows = judged()
    visits = [
        Visit.model_validate(dict(zip(Visit.model_fields, values, strict=True)))
        for values in zip(*(read_columns(rows)[name] for name in Visit.model_fields))
    ]
    types = {
        field.name: f"tensor({'string' if field.kind in TEXTS else 'float'})"
        for field in JUDGED.fields
    }

    learned = to_arrays(JUDGED.fields, read_columns(rows))
    served = Fields(Visit, types).arrays(visits)

    assert any(np.isnan(learned[name]).any() for name in ("age", "scan"))
    for name, array in served.items():
        np.testing.assert_array_equal(array, learned[name])


@pytest.mark.parametrize("schema", BOTH, ids=["judged", "measured"])
def test_a_missing_value_is_told_from_the_median(schema: Schema) -> None:
    rows = rows_of(schema)
    known = rows["age"].notna()
    # Whoever has no age gets what nobody else gets.
    unlike: Any = "wait" if schema is JUDGED else 1_000.0
    like: Any = "go" if schema is JUDGED else 0.0
    rows["label"] = np.where(known, like, unlike)

    # Of rows that it has seen, a model may know the words.
    model = train.fit(LINEAR.build(schema), schema, rows[::2])
    rows, known = rows[1::2], known[1::2]
    predicted = model.predict(read_inputs(schema, rows))

    assert (predicted[~known] == unlike).all() or (predicted[~known] > 500).all()
    assert (predicted[known] == like).all() or (predicted[known] < 500).all()


def test_no_group_is_on_both_sides_and_every_label_is_on_each() -> None:
    rows = judged(group=[str(number // 4) for number in range(240)])

    in_test = splits.draw_test(JUDGED, rows, 0.25, seed=0)

    assert not set(rows["group"][in_test]) & set(rows["group"][~in_test])
    assert set(rows["label"][in_test]) == set(rows["label"])
    assert 40 < in_test.sum() < 90


def test_groups_of_a_regression_are_kept_together() -> None:
    rows = measured(group=[str(number // 4) for number in range(240)])

    in_test = splits.draw_test(MEASURED, rows, 0.25, seed=0)

    assert not set(rows["group"][in_test]) & set(rows["group"][~in_test])
    assert in_test.sum() == 60


@pytest.mark.parametrize("schema", BOTH, ids=["judged", "measured"])
def test_the_latest_rows_are_the_test(schema: Schema) -> None:
    times = np.random.default_rng(1).permutation(240).astype(float)
    rows = rows_of(schema).assign(time=times)

    in_test = splits.draw_test(schema, rows, 0.25, seed=0)

    assert rows["time"][in_test].min() > rows["time"][~in_test].max()
    assert in_test.sum() == 60
    for learned, held_out in splits.draw_folds(schema, rows, 3, seed=0):
        assert times[learned].max() < times[held_out].min()


def test_a_group_that_begins_before_the_test_is_learned_from() -> None:
    groups = ["long" if number % 10 == 0 else str(number) for number in range(240)]
    rows = judged(time=np.arange(240.0), group=groups)

    in_test = splits.draw_test(JUDGED, rows, 0.25, seed=0)

    assert not in_test[rows["group"] == "long"].any()
    assert in_test.any()


def test_rows_without_groups_are_split_by_label() -> None:
    rows = judged(label=["go"] * 180 + ["stay"] * 40 + ["wait"] * 20)

    in_test = splits.draw_test(JUDGED, rows, 0.25, seed=0)

    shares = rows["label"][in_test].value_counts().to_dict()
    assert shares == {"go": 45, "stay": 10, "wait": 5}


def test_texts_with_two_labels_and_repeated_rows_are_dropped() -> None:
    rows = judged().iloc[[0, 0, 1, 1, 2]].assign(label=["go", "stay", "go", "go", "go"])

    assert prepare.clean(JUDGED, rows)["note"].tolist() == rows["note"].tolist()[2::2]


def test_repeated_rows_without_a_text_are_kept() -> None:
    class Reading(Contract):
        warm: bool

    class LabelledReading(Reading):
        label: str

    schema = make_schema(Reading, LabelledReading)
    rows = pd.DataFrame({"warm": [True, True, False], "label": ["a", "b", "a"]})

    assert prepare.clean(schema, rows).equals(rows)


def check(rows: pd.DataFrame, tested: list[bool], all_tested: bool = True) -> str:
    """What is said about a split."""
    in_test = np.array(tested)
    with pytest.raises(PipelineError) as caught:
        prepare.check_sides(JUDGED, rows[~in_test], rows[in_test], all_tested)
    return str(caught.value)


def test_a_label_that_cannot_be_tested_is_named_with_its_rows() -> None:
    rows = judged().iloc[:4].assign(label=["go", "go", "stay", "go"])

    said = check(rows, [True, False, False, False])

    assert "Too few for: 'stay' (1 rows)" in said


def test_a_label_that_only_the_test_has_is_named_even_where_not_all_are_tested() -> (
    None
):
    rows = judged().iloc[:3].assign(label=["go", "stay", "wait"])

    said = check(rows, [False, False, True], all_tested=False)

    assert "Too few for: 'wait' (1 rows)" in said and "cannot be learned" in said


def test_labels_that_look_like_numbers_get_a_hint_at_regression() -> None:
    rows = judged().iloc[:6].assign(label=["1.5", "2", "3.25", "4", "5", "6"])

    said = check(rows, [True, False] * 3)

    assert "look like numbers" in said and "label: float" in said


def test_rows_of_a_single_label_are_refused() -> None:
    rows = judged().iloc[:4].assign(label="go")

    assert "All 4 rows have the label 'go'" in check(rows, [True, False] * 2)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_fold_of_one_label_is_refused_with_the_label() -> None:
    rows = judged().head(60).assign(label=["go"] * 59 + ["wait"])

    with pytest.raises(
        PipelineError, match="rows to learn from, all of the label 'go'"
    ):
        splits.draw_folds(JUDGED, rows, 3, seed=0)


def test_rows_without_a_time_are_learned_from_whatever_the_type_of_a_time() -> None:
    times = [None if number % 7 == 0 else number for number in range(240)]
    rows = judged(time=pd.array(times, dtype="Int64"))

    in_test = splits.draw_test(JUDGED, rows, 0.25, seed=0)

    assert in_test.sum() > 40 and rows["time"][in_test].min() > 160


@pytest.mark.parametrize(
    "rows",
    [measured(group="one"), measured(time=1.0), measured().head(4)],
    ids=["one group", "one time", "one row to test on"],
)
def test_rows_that_cannot_be_split_are_refused(rows: pd.DataFrame) -> None:
    in_test = splits.draw_test(MEASURED, rows, 0.25, seed=0)

    with pytest.raises(PipelineError, match="of one group, or of one time, are never"):
        prepare.check_sides(MEASURED, rows[~in_test], rows[in_test])


def test_too_few_rows_for_the_folds_are_refused() -> None:
    with pytest.raises(PipelineError, match="in 3 folds is not possible.*lower"):
        splits.draw_folds(JUDGED, judged().iloc[:2], 3, seed=0)
    with pytest.raises(PipelineError, match="Add rows.$"):
        splits.draw_folds(JUDGED, judged().iloc[:1], 2, seed=0)


def test_a_metric_of_the_other_task_is_refused_with_those_of_this_one() -> None:
    with pytest.raises(PipelineError, match="gate.r2 is no metric.*macro_f1, accuracy"):
        check_gate(Task.CLASSIFICATION, Gate(r2=0.5))
    with pytest.raises(PipelineError, match="gate.macro_f1.*mae, rmse, r2"):
        check_gate(Task.REGRESSION, Gate(macro_f1=0.5))


GOOD = {"r2": 0.8, "rmse": 2.0, "mae": 1.0}
MEAN = {"r2": 0.0, "rmse": 4.0, "mae": 3.0}


@pytest.mark.parametrize(
    ("gate", "found", "failures"),
    [
        (Gate(r2=0.8, rmse=2), GOOD, []),
        (Gate(r2=0.9), GOOD, ["r2 is 0.8, below the bound of 0.9 (gate.r2)"]),
        (Gate(rmse=1), GOOD, ["rmse is 2.0, above the bound of 1.0 (gate.rmse)"]),
        (Gate(), MEAN | {"r2": -0.5}, ["r2 is -0.5, but 0.0 if every row gets the"]),
        (Gate(mae=9), MEAN | {"mae": 3.5}, ["mae is 3.5, but 3.0 if every row gets"]),
    ],
)
def test_a_floor_a_ceiling_and_the_baseline_stop_a_model(
    gate: Gate, found: dict[str, float], failures: list[str]
) -> None:
    said = find_failures(Task.REGRESSION, gate, found, MEAN)

    assert len(said) == len(failures)
    assert all(one.startswith(other) for one, other in zip(said, failures, strict=True))


def test_the_gate_stops_a_weak_model_and_the_earlier_one_stays(trained: Config) -> None:
    is_regression = read_schema().task is Task.REGRESSION
    name = "r2" if is_regression else "macro_f1"
    gate = Gate().model_copy(update={name: 1.001})  # which no model reaches
    before = (trained.paths.model / MODEL_FILE).read_bytes()

    with pytest.raises(PipelineError) as caught:
        evaluate.run(trained.model_copy(update={"gate": gate}))

    metrics = json.loads(trained.paths.metrics.read_text(encoding="utf-8"))
    assert f"{name} is {metrics[name]}, below the bound of 1.001" in str(caught.value)
    assert (trained.paths.model / MODEL_FILE).read_bytes() == before


def test_texts_without_spaces_are_told_to_try_characters() -> None:
    rows = judged(note=["打开厨房的灯"] * 240)

    assert "try model=characters" in evaluate.suggest_remedy(JUDGED, rows)
    assert "try model=characters" not in evaluate.suggest_remedy(JUDGED, judged())


def test_near_copies_are_the_reason_only_if_a_random_split_is_better() -> None:
    group, time = splits.SplitKind.GROUP, splits.SplitKind.TIME

    said = evaluate.describe_leak(group, 0.952, 0.992)
    assert said.endswith(
        "0.992: its training rows have near-duplicates of its test rows."
    )
    assert "the future" in evaluate.describe_leak(time, 0.952, 0.992)
    for better in (0.992, 0.9911):
        said = evaluate.describe_leak(group, better, 0.991)
        assert said.endswith("show 0.991, which is no better.")


def test_coverage_falls_and_accuracy_rises_with_the_threshold() -> None:
    curve = evaluate.coverage(np.array([0.4, 0.6, 0.9]), np.array([False, True, True]))

    rows = {threshold: found for threshold, *found in curve.to_numpy().tolist()}
    assert rows[0.0] == [1, pytest.approx(2 / 3, abs=1e-4)]
    assert rows[0.5] == [pytest.approx(2 / 3, abs=1e-4), 1]


@pytest.mark.parametrize("schema", BOTH, ids=["judged", "measured"])
def test_the_parity_gate_stops_a_model_that_differs(schema: Schema) -> None:
    rows = rows_of(schema)
    model = train.fit(LINEAR.build(schema), schema, rows)
    content = export.convert(model, schema)
    model.named_steps["estimator"].coef_ *= 1.01

    with pytest.raises(PipelineError, match="ONNX and scikit-learn differ on"):
        export.check_parity(model, schema, content, rows, 1e-5)


def test_edge_cases_are_the_extremes_of_each_kind() -> None:
    cases = export.edge_cases(JUDGED, read_columns(judged()))

    assert set(export.EDGE_TEXTS) <= set(cases["note"])
    assert set(cases["ward"]) >= {None, "north", "south", "east"}
    assert set(cases["age"]) >= {None, 0.0, 120.0}
    assert max(cases["beds"]) > 3e38 and min(cases["beds"]) == 0
    assert set(cases["urgent"]) == {True, False}
    assert None in cases["scan"]


def test_a_model_that_onnx_cannot_express_is_reported_in_one_line() -> None:
    family = models.linear("characters", 4, 30)
    model = train.fit(family.build(JUDGED), JUDGED, judged())

    with pytest.raises(PipelineError, match="up to three") as caught:
        export.convert(model, JUDGED)

    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_fitted_is_reported() -> None:
    rows = judged(note=["!?"] * 240)

    with pytest.raises(PipelineError, match="cannot be fitted: empty vocabulary"):
        train.fit(LINEAR.build(JUDGED), JUDGED, rows)


def test_a_stored_row_is_an_instance_again_whatever_its_choices_are() -> None:
    class Colour(Enum):
        RED = "red"

    class Given(Contract):
        stars: Literal[1, 2] | None
        sure: Literal[True]
        colour: Colour
        scan: Annotated[list[float], Field(min_length=1, max_length=1)]

    class Labelled(Given):
        label: str

    row = {"stars": "2", "sure": "true", "colour": "red", "scan": [1.0], "label": "a"}

    found = make_instance(make_schema(Given, Labelled), row)

    assert found == Given(stars=2, sure=True, colour=Colour.RED, scan=[1.0])


class Parcel(Contract):
    """An instance with more in its dump than its fields, and less."""

    width: Annotated[float, PlainSerializer(lambda width: f"{width} cm")]
    height: Annotated[float, Field(exclude=True)]
    room: Literal["a", "b"] | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> float:
        """The product."""
        return self.width * self.height


def test_the_fields_of_an_instance_make_the_instance_again() -> None:
    parcel = Parcel(width=2, height=3, room="a")

    dumped = dump_fields(parcel)

    assert dumped == {"width": 2, "height": 3, "room": "a"}
    assert Parcel.model_validate_json(json.dumps(dumped)) == parcel


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (AfterValidator(np.log1p), "'x', validated again, becomes .*0.69"),
        (AfterValidator(lambda x: x - 1), "'x', validated again, is refused: .*than 0"),
        (AfterValidator(abs), ""),
    ],
)
def test_a_validator_that_changes_what_it_has_returned_is_named(
    rule: Any, says: str
) -> None:
    given = create_model(
        "Given",
        __base__=Contract,
        x=(Annotated[float, Field(gt=0), rule], ...),
        y=(str | None, None),
    )
    labelled = create_model("Labelled", __base__=given, label=(str, ...))
    rows = pd.DataFrame({"x": [0.0 if "refused" in says else 1.0], "y": None})

    def check() -> None:
        prepare.check_validators(make_schema(given, labelled), rows)

    if not says:
        return check()
    with pytest.raises(PipelineError, match=says):
        check()


def test_the_sidecar_describes_the_model(trained: Config) -> None:
    sidecar = json.loads((trained.paths.model / SIDECAR_FILE).read_text())
    schema = read_schema()
    every = pd.concat(map(read_rows, (trained.paths.train, trained.paths.test)))
    truth = read_labels(schema, every)

    assert sidecar["metrics"] == json.loads(trained.paths.metrics.read_text())
    assert sidecar["refitted"] is trained.refit is True
    assert sidecar["labels"] == Model.load(trained.paths.model, Instance).labels
    assert sum(sidecar["training_shares"].values()) == pytest.approx(1)
    if schema.task is Task.REGRESSION:
        assert list(sidecar["training_shares"]) == list(TENTHS)
        assert sidecar["deciles"][0] == truth.min()
        assert sidecar["deciles"][-1] == truth.max()
    else:
        assert sidecar["training_shares"] == {
            label: pytest.approx((truth == label).mean()) for label in sidecar["labels"]
        }


def test_the_exported_model_has_learned_from_all_rows_unless_refit_is_off(
    trained: Config, tmp_path: Path
) -> None:
    paths = trained.paths.model_copy(update={"model": tmp_path})
    export.run(trained.model_copy(update={"paths": paths, "refit": False}))

    sidecar = json.loads((tmp_path / SIDECAR_FILE).read_text())
    rows = read_rows(trained.paths.train)
    assert sidecar["refitted"] is False
    if sidecar["labels"]:
        share = (read_labels(read_schema(), rows) == sidecar["labels"][0]).mean()
        assert sidecar["training_shares"][sidecar["labels"][0]] == pytest.approx(share)


class Dated(Contract):
    """A contract with a field that no model reads."""

    born: date


class LabelledDated(Dated):
    """A row of it."""

    label: str


class Undecided(Visit):
    """A row whose label may be missing."""

    label: str | None


class Shadowed(Contract):
    """An instance with a field that belongs to its label."""

    group: str


class LabelledShadowed(Shadowed):
    """A row of it."""

    label: str


class Apart(Contract):
    """A row that does not derive from its instance."""

    note: str
    label: str


class Numbered(Visit):
    """A row whose group is a number."""

    label: str
    group: int = 0


class Written(Visit):
    """A row whose time is text, which has another order: 9.1.2026 after 10.1.2026."""

    label: str
    time: str | None = None


class Old(Visit):
    """A row of a contract of 0.3."""

    label: str
    template: str = ""


EXTRA = {"label": str, "group": str, "time": float}


def aliased(name: str) -> type[Contract]:
    """A row with a field that is taken by an alias only."""
    fields: dict[str, Any] = {**EXTRA, name: (EXTRA.get(name, float), Field(alias="y"))}
    return create_model("Row", __base__=Visit, **fields)


@pytest.mark.parametrize(
    ("instance", "labelled", "says"),
    [
        (Dated, LabelledDated, "'born' of Dated is a date.*Write `float`"),
        (Visit, Undecided, "'label' of Undecided may be None"),
        (Visit, Visit, "'label' of Visit is missing"),
        (Shadowed, LabelledShadowed, "'group', which is no input.*Rename"),
        (Visit, Old, "'template'.*called `group` now"),
        (Visit, Apart, "lacks the field 'age' of Instance. Let it derive"),
        (Visit, Numbered, "'group' of LabelledInstance.*Write `group: str`"),
        (Visit, Written, "'time' of LabelledInstance.*Write `datetime`"),
        *(
            (Visit, aliased(name), f"'{name}' of Row is taken by its alias")
            for name in EXTRA
        ),
        (Visit, aliased("age"), "'age' of Row is taken by its alias"),
        (
            Visit,
            create_model("Row", __base__=Visit, label=complex),
            "'label' of Row is a c",
        ),
    ],
)
def test_a_contract_that_no_model_reads_is_refused_with_what_to_write(
    instance: type[Contract], labelled: type[Contract], says: str
) -> None:
    with pytest.raises(PipelineError, match=says):
        make_schema(instance, labelled)


@pytest.mark.parametrize(
    ("family", "last"),
    [
        (models.boosting(3, 0.1, 31, 9, 0), "[3/3] 3 trees"),
        (models.sgd("words", 1, 1, 4, 0), "-- Epoch 4"),
        (LINEAR, ""),
    ],
)
def test_the_last_step_of_a_fit_is_read_and_the_estimator_is_unchanged(
    family: models.Family, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, pipeline = judged(), family.build(JUDGED)

    with show_progress(pipeline) as steps:
        pipeline.fit(read_inputs(JUDGED, rows), read_labels(JUDGED, rows))

    assert steps.last.startswith(last) and bool(steps.last) == bool(last)
    assert pipeline.named_steps["estimator"].verbose == 0
    assert capsys.readouterr().out == ""


def test_a_long_fit_is_shown_with_or_without_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = LINEAR.build(JUDGED)

    with caplog.at_level("INFO"), show_progress(pipeline, seconds=0.01):
        wait_until(lambda: "LogisticRegression does not tell its" in caplog.text)
        print("[2/3] 1 tree")
        wait_until(lambda: "s: [2/3] 1 tree" in caplog.text)
