"""The report: for each task, and for labels that look like something else."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import create_model

from serving.contract import Contract
from tests.training.toy import JUDGED, MEASURED, judged, measured
from training import diagnosis, models, report, train
from training.columns import read_inputs, read_labels
from training.rows import read_table, write_table
from training.schema import Schema, make_schema
from training.scores import Output
from training.values import Config

FAMILY = models.linear("words", 1, 30)


# The fonts of matplotlib have not the letters of every language.
@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_the_report_is_one_page_with_the_name_of_the_service(trained: Config) -> None:
    report.run(trained)

    page = trained.paths.report.read_text(encoding="utf-8")
    name = re.search(r'name = "(.*)"', report.PYPROJECT.read_text("utf-8"))
    assert name and f"<title>{name[1]}: model report" in page
    assert page.count('src="data:image/png;base64,') >= 3
    for section in ("Slices", "Importance of each field", "Worst mistakes"):
        assert f"<h2>{section}</h2>" in page


def test_labels_are_text_in_tables_and_pictures(tmp_path: Path) -> None:
    for labels in (
        ["200", "404", "1000000"],
        ["007", "07", "7"],
        ["$1_to_$2", "$", "_"],
    ):
        table = pd.DataFrame({"label": labels, "f1": [0.1, 0.2, 0.3]})
        write_table(tmp_path / "f1.json", table)

        found = read_table(tmp_path / "f1.json")
        figure = report.draw_f1(found)
        (axes,) = figure.axes
        shown = [text.get_text() for text in axes.get_yticklabels()]
        report.encode(figure)

        assert found["label"].tolist() == shown == labels
        assert axes.get_ylim() == pytest.approx((2.54, -0.54), abs=0.5)


@pytest.mark.parametrize("schema", [JUDGED, MEASURED], ids=["judged", "measured"])
def test_slices_worst_rows_and_importance_are_those_of_the_rows(schema: Schema) -> None:
    rows = judged() if schema is JUDGED else measured()
    model = train.fit(FAMILY.build(schema), schema, rows)
    truth = read_labels(schema, rows)
    output: Output = train.predict(model, read_inputs(schema, rows))

    tenants = pd.Series(["acme"] * 12 + [""] * (len(rows) - 12))

    tables = diagnosis.diagnose(schema, model, rows, truth, output, tenants)

    slices = tables["slices"].set_index("slice")
    north = (rows["ward"] == "north").to_numpy()
    if schema is JUDGED:
        right = np.array(train.label_names(model))[output.argmax(axis=1)] == truth
        assert slices.loc["ward: north", "accuracy"] == pytest.approx(
            right[north].mean(), abs=1e-4
        )
    else:
        error = np.abs(output[:, 0] - truth)
        assert slices.loc["ward: north", "mae"] == pytest.approx(
            error[north].mean(), abs=1e-4
        )
        assert tables["worst"]["actual value"].iloc[0] == truth[error.argmax()]
        assert tables["deciles"]["rows"].sum() == len(rows)
    assert slices.loc["ward: north", "rows"] == north.sum()
    assert slices.loc["tenant: acme", "rows"] == 12
    assert {"urgent: true", "age is missing", "all"} <= set(slices.index)
    fields = tables["importance"]["field"].tolist()
    assert sorted(fields) == sorted(field.name for field in schema.fields)
    assert fields.index("ward") < fields.index("beds")  # which tells nothing


def test_a_field_may_be_called_as_the_answer_of_a_model_is() -> None:
    names = ["actual", "predicted", "score"]
    fields: dict[str, Any] = dict.fromkeys(names, (str, ...))
    given = create_model("Given", __base__=Contract, **fields)
    schema = make_schema(given, create_model("Labelled", __base__=given, label=str))
    rows = pd.DataFrame([{"label": "a", **{name: f"own {name}" for name in names}}])
    output = np.array([[0.2, 0.8]])

    worst = diagnosis.find_worst(schema, rows, np.array(["a"]), output, ["a", "b"])

    assert [*worst.iloc[0, :3]] == [f"own {name}" for name in names]
    assert [*worst.iloc[0, 3:]] == ["a", "b", 0.8]


def test_a_regression_has_its_own_sections(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=50)
    write_table(
        tmp_path / "residuals.json",
        pd.DataFrame({"actual": actual, "value": actual + 0.1}),
    )
    deciles = diagnosis.tabulate_deciles(actual, actual + 0.1)
    write_table(tmp_path / "deciles.json", deciles)

    sections = {title: body for title, _, body in report.describe_values(tmp_path)}

    assert list(sections) == [
        "Predicted against actual",
        "Residuals",
        "Error by decile",
    ]
    assert deciles["bias"].tolist() == pytest.approx([0.1] * 10)
