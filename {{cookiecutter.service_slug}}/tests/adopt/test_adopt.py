"""`make adopt`: what a table says, and what is written, and what is left alone."""

import codecs
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from adopt import write
from adopt.__main__ import (
    check_names,
    check_test_labels,
    choose_floor,
    choose_model,
    draw_samples,
    read_rows,
)
from adopt.apply import (
    DVC,
    STOPS,
    find_pipeline,
    place,
    run_dvc,
    stop_on_signals,
    undone_on_failure,
)
from adopt.infer import Field, Options, Plan, infer
from adopt.layout import Refusal, read_free_memory
from adopt.names import name_fields, to_field
from serving.fields import Kind, read_kinds, read_task
from serving.testing import ROOT
from training.dialect import to_number
from training.schema import make_schema
from training.stage import PipelineError

CONTRACT = '''
"""A contract, with what a person has added to it."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from serving.contract import Contract


class Instance(Contract):
    """One item."""

    # gone with its field
    old: float
    age: Annotated[int, Field(ge=18)]  # adults only

    @field_validator("old")
    @classmethod
    def _check_old(cls, old: float) -> float:
        return old

    @field_validator("age", "old")
    @classmethod
    def _check_age(cls, age: int) -> int:
        return age

    @model_validator(mode="after")
    def _check_all(self) -> "Instance":
        return self

    def describe(self) -> str:
        """Say what it is."""
        return "an item"


class LabelledInstance(Instance):
    """A row."""

    label: str
'''

TOWNS = ["Bonn", "Köln", "Ulm"]

Write = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Write:
    """`table("more", cells)`: a CSV file of 60 rows, with a column more."""

    def make(
        name: str = "", cell: Callable[[int], Any] = str, separator: str = ";"
    ) -> Path:
        header = ["Claim ID", "Age", "Price (€)", "Town", "Closed?", "Outcome"]
        rows: list[list[Any]] = [header + [name] * bool(name)]
        for number in range(60):
            price = f"{1_000 + number * 7},50"
            row: list[Any] = [
                f"C{number:03}",
                20 + number % 50,
                price,
                TOWNS[number % 3],
            ]
            row += ["true" if number % 2 else "false", "ab"[number * 7 % 5 > 1]]
            rows.append([*row, *([cell(number)] if name else [])])
        file = tmp_path / "claims.csv"
        lines = [separator.join(map(str, row)) for row in rows]
        file.write_text("\n".join(lines), encoding="utf-8")
        return file

    return make


def plan_for(file: Path, label: str = "outcome", **options: Any) -> Plan:
    """What a table says."""
    return infer(Options(file, label, **options))


def lines(plan: Plan) -> list[str]:
    """The fields as the contract has them."""
    return [field.line for field in plan.fields]


def test_a_table_says_kinds_ranges_choices_and_the_task(table: Write) -> None:
    plan = plan_for(table("Gap", lambda number: "" if number % 9 else number / 2))

    assert lines(plan) == [
        "age: Annotated[int, Field(ge=0, le=120)]",
        "price: Annotated[float, Field(ge=0, le=1900)]",
        "town: Literal['Bonn', 'Köln', 'Ulm']",
        "closed: bool",
        "gap: Annotated[float, Field(ge=0, le=54)] | None = None",
    ]
    assert plan.label.line == "label: Literal['a', 'b']"
    assert set(plan.left_out) == {"Claim ID"}
    assert plan.dialect.columns["price"] == "Price (€)"
    assert plan.dialect.comma == ["price"]


def test_the_pipeline_that_an_adopted_model_has_replaced_is_taken_from_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline, adopted = "stages:\n  train: {}\n", "stages:\n  adopt:\n    deps: []\n"
    DVC.write_text(adopted, encoding="utf-8")

    with pytest.raises(Refusal, match="Git has no earlier one"):
        find_pipeline()

    subprocess.run(["git", "init", "--quiet"], check=True)
    for text in (pipeline, adopted):
        DVC.write_text(text, encoding="utf-8")
        subprocess.run(["git", "add", "dvc.yaml"], check=True)
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        commit = ("commit", "--quiet", "--no-verify", "--message=a")
        subprocess.run(["git", *who, *commit], check=True)
    assert find_pipeline() == pipeline

    DVC.write_text(pipeline, encoding="utf-8")
    assert find_pipeline() == pipeline


@pytest.mark.parametrize(
    ("scores", "floor"),
    [
        ([0.9, 0.91, 0.92], 0.72),  # 0.8 of the mean
        ([0.8, 0.9, 1.0], 0.6),  # 0.9 - 3 * 0.1
        ([0.067, 0.028, 0.078], 0.0),  # such a model may score 0 on other rows
        ([], 0.0),
    ],
)
def test_a_floor_leaves_room_for_how_scores_differ(
    scores: list[float], floor: float
) -> None:
    assert choose_floor(scores) == pytest.approx(floor, abs=0.011)


@pytest.mark.parametrize("name", ["Variable", "label", "copy", "class", "property"])
def test_a_name_that_no_field_may_have_gets_an_ending(table: Write, name: str) -> None:
    plan = plan_for(table(name, lambda number: number / 2))

    assert lines(plan)[-1].startswith(f"{name.lower()}_value: ")


@pytest.mark.parametrize(
    ("cell", "options", "says"),
    [
        (lambda _: "x", {}, "nothing to tell apart"),
        (lambda number: f"x{number}", {}, "60 values in 60 rows: too many"),
        (lambda number: number, {}, "numbers the rows"),
        (lambda number: number % 2, {"task": "x"}, "TASK: 'x' is none"),
        (lambda number: "ab"[number % 2], {"task": "regression"}, "has texts"),
        (lambda number: "ab"[number * 7 % 5 > 1], {}, "'Outcome' is the label"),
        (lambda number: number % 2, {"drop": ["nil"]}, "DROP: there is no column"),
    ],
)
def test_a_label_that_cannot_be_learned_is_refused(
    table: Write, cell: Callable[[int], Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(Refusal, match=says):
        plan_for(table("More", cell), "more", **options)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (lambda n: f"{1 + n % 12:02}-01-2026", "nothing tells day from month"),
        (lambda n: f"{1 + n % 12:02}/01/2026", "nothing tells day from month"),
        (lambda n: n if n % 20 else "soon", "TIME: .*Correct them, or leave"),
    ],
)
def test_a_time_that_cannot_be_told_is_refused(
    table: Write, cell: Callable[[int], Any], says: str
) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        plan_for(table("Seen", cell), time="seen")

    assert "DROP=" not in str(caught.value)  # the column is wanted


@pytest.mark.parametrize(
    ("last", "is_refused"),
    [
        ("Total;;72.420,00;;;", True),
        ("Summe: ;44;72420,00;Bonn;true;a", True),
        ("C060;44;1100,50;Total;true;a", False),  # a name in a row like the others
        (";;;;;", False),  # left out, as it has no label
    ],
)
def test_a_last_row_that_sums_up_the_others_is_refused(
    table: Write, last: str, is_refused: bool
) -> None:
    file = table()
    file.write_text(f"{file.read_text('utf-8')}\n{last}\n;;;;;\n", encoding="utf-8")

    if is_refused:
        with pytest.raises(Refusal, match="sums up the others.*remove it"):
            plan_for(file, "price")
    else:
        assert plan_for(file, "price").rows == 60 + last.startswith("C")


@pytest.mark.parametrize("form", ["[{0}, {1:.2f}, 0]", "[{0} {1:.2f} 0.  ]"])
def test_lists_of_numbers_in_a_text_are_vectors(table: Write, form: str) -> None:
    file = table("Seen", lambda n: form.format(n, n / 7) if n else "")
    plan = plan_for(file)
    contract = write.load_contract(write.write_contract(CONTRACT, plan, set()))

    rows = read_rows(plan, file, contract.LabelledInstance)

    item = "Annotated[float, Field(ge=0, le=120)]"
    assert f"list[{item}], Field(min_length=3, max_length=3)" in lines(plan)[-1]
    assert [*rows["seen"][7]] == [7, 1, 0]


def test_a_time_may_be_a_number_with_a_unit(table: Write, tmp_path: Path) -> None:
    file = table("Seen", lambda number: f"{number},5 days")
    plan = plan_for(file, time="seen")
    contract = write.load_contract(write.write_contract(CONTRACT, plan, set()))

    rows = read_rows(plan, file, contract.LabelledInstance)

    assert rows["time"].to_list() == [number + 0.5 for number in range(60)]


def test_a_label_that_is_unclear_is_neither_left_out_nor_read_as_text(
    table: Write,
) -> None:
    file = table("More", lambda number: number * 3 if number % 20 else "12o")

    with pytest.raises(Refusal, match="TASK=classification") as caught:
        plan_for(file, "more")

    assert "DROP=" not in str(caught.value)


def test_rows_to_test_on_may_have_a_mark_but_no_other_separator(table: Write) -> None:
    test = table().rename(table().with_name("test.csv"))
    test.write_bytes(codecs.BOM_UTF8 + test.read_bytes())
    assert plan_for(table(), test=test).rows == 120

    test.write_bytes(test.read_bytes().replace(b";", b"|"))
    with pytest.raises(Refusal, match=r"separated by '\|', those of DATA by ';'"):
        plan_for(table(), test=test)


def test_rows_to_test_on_need_no_column_that_is_left_out(table: Write) -> None:
    test = table().with_name("test.csv")
    rows = pd.read_csv(table(), sep=";", dtype=str)
    rows.drop(columns="Age").to_csv(test, sep=";", index=False)

    assert plan_for(table(), test=test, drop=["age"]).rows == 120
    with pytest.raises(Refusal, match="lacks the columns Age.*but for what DROP"):
        plan_for(table(), test=test)


def test_rows_to_test_on_have_no_label_that_is_not_learned() -> None:
    learned, tested = pd.Series(["a", "b"]), pd.Series(["b", "new", "new"])

    check_test_labels(learned, tested[:1], Path("test.csv"))
    with pytest.raises(Refusal, match=r"no row of DATA has: 'new' \(2 rows\)"):
        check_test_labels(learned, tested, Path("test.csv"))


def test_rows_to_test_on_of_other_types_are_refused(table: Write) -> None:
    test = table().with_name("test.parquet")
    pd.read_csv(table(), sep=";").to_parquet(test)

    with pytest.raises(Refusal, match="TEST: .* and DATA have different types"):
        plan_for(table(), test=test)


def test_groups_are_texts_or_times_of_a_parquet_file(
    table: Write, tmp_path: Path
) -> None:
    rows = pd.read_csv(table(), sep=";")
    rows["day"] = [date(2026, 1, 1 + number % 9) for number in range(60)]
    rows["parts"] = [[number % 9] for number in range(60)]
    file = tmp_path / "claims.parquet"
    rows.to_parquet(file)
    plan = plan_for(file, group="day")
    contract = write.load_contract(write.write_contract(CONTRACT, plan, set()))

    groups = read_rows(plan, file, contract.LabelledInstance)["group"]
    assert groups[0] == "2026-01-01"
    with pytest.raises(Refusal, match="GROUP: 'parts' holds lists"):
        plan_for(file, group="parts")


def test_memory_that_a_system_does_not_tell_is_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)  # as on macOS
    monkeypatch.delattr("os.sysconf")

    assert read_free_memory() > 1 << 60


def test_integers_with_few_values_are_classes_unless_said_otherwise(
    table: Write,
) -> None:
    file = table("Stars", lambda number: number * number % 11 % 4)

    classes, numbers = plan_for(file, "stars"), plan_for(
        file, "stars", task="regression"
    )

    assert classes.label.line == "label: Literal['0', '1', '3']"
    assert "TASK=regression" in classes.label.said
    assert numbers.label.line == "label: float"


def test_what_a_person_has_written_survives(table: Write) -> None:
    written = write.write_contract(CONTRACT, plan_for(table()), kept={"age"})
    module: Any = write.load_contract(written)

    kinds = {field.name: field.kind for field in read_kinds(module.Instance)}
    assert kinds == {
        "age": Kind.NUMBER,
        "price": Kind.NUMBER,
        "town": Kind.CATEGORY,
        "closed": Kind.FLAG,
    }
    assert read_task(module.LabelledInstance) == "classification"
    assert "age: Annotated[int, Field(ge=18)]  # adults only" in written
    assert 'field_validator("age")' in written or "field_validator('age')" in written
    for kept in ("_check_age", "_check_all", "def describe"):
        assert kept in written
    for gone in ("_check_old", "# gone with its field"):
        assert gone not in written


def test_comments_and_imports_survive_a_field_of_another_type(table: Write) -> None:
    text = CONTRACT.replace("from typing", "from datetime import datetime\nfrom typing")
    text = text.replace("(self) -> str", '(self, day: "datetime | None") -> str')

    written = write.write_contract(text, plan_for(table()), set())

    assert "le=120)]  # adults only" in written
    assert "from datetime import datetime" in written


def test_the_same_table_again_changes_nothing_and_a_column_more_one_line(
    table: Write,
) -> None:
    first = write.write_contract(CONTRACT, plan_for(table()), set())
    names = {"age", "price", "town", "closed", "label"}

    again = write.write_contract(first, plan_for(table()), names)
    more = write.write_contract(first, plan_for(table("More", lambda n: n % 7)), names)

    assert again == first
    added = set(more.splitlines()) - set(first.splitlines())
    assert added == {"    more: Annotated[int, Field(ge=0, le=12)]"}


@pytest.mark.parametrize(
    "choice",
    ["Satisfied {}  with nearly all that I was sent", "{} text" + " more" * 20],
)
def test_a_sample_has_the_choices_of_the_contract_and_short_lines(
    table: Write, choice: str
) -> None:
    name = "How satisfied are you with what you have received?"
    file = table(name, lambda number: choice.format("no so very".split()[number % 3]))
    plan = plan_for(file)
    module: Any = write.load_contract(write.write_contract(CONTRACT, plan, set()))
    rows = read_rows(plan, file, module.LabelledInstance)

    samples = draw_samples(make_schema(module.Instance, module.LabelledInstance), rows)
    text = write.write_examples("EXAMPLES = []\n", samples)

    assert max(map(len, text.splitlines())) <= 88
    written: dict[str, Any] = {}
    exec(text, written)
    for sample in written["EXAMPLES"]:
        module.Instance.model_validate(sample)


def test_without_the_families_that_are_compared_the_model_stays(
    table: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = table()
    plan = plan_for(file)
    module: Any = write.load_contract(write.write_contract(CONTRACT, plan, set()))
    schema = make_schema(module.Instance, module.LabelledInstance)
    rows = read_rows(plan, file, module.LabelledInstance)
    monkeypatch.setattr("adopt.__main__.CONF", tmp_path)  # a service without them
    text = "defaults:\n  - data: intents\n  - model: mine\ngate: {}\n"

    name, *_ = choose_model(schema, rows)

    assert "- model: mine\n" in write.write_config(text, name, {})
    assert "- model: linear\n" in write.write_config(text, "linear", {})


def test_a_column_keeps_the_field_that_it_had(table: Write) -> None:
    file = table("年", lambda number: number % 7)
    before = plan_for(file)
    names = write.read_names(write.write_source(before, "claims.csv", None, ""))
    names["Age"] = "years"  # a person has renamed it, here and in the contract
    header, *rows = file.read_text(encoding="utf-8").splitlines()
    rows = [f"{number % 4};{row}" for number, row in enumerate(rows)]
    file.write_text("\n".join(["月;" + header, *rows]), encoding="utf-8")

    plan = infer(Options(file, "outcome"), names)

    fields = {each.column: each.name for each in plan.fields}
    assert fields["年"] == before.fields[-1].name
    assert fields["月"] not in before.dialect.columns
    assert fields["Age"] == "years"
    assert write.read_names("no: columns") == {}


def test_rows_that_the_contract_refuses_are_listed_in_a_file(
    table: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(table())
    contract = write.load_contract(write.write_contract(CONTRACT, plan, set()))
    file = table()
    file.write_text(file.read_text("utf-8").replace("Bonn", "Rom"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(PipelineError, match="20 value"):
        read_rows(plan, file, contract.LabelledInstance)

    listed = Path("reports/bad-rows.txt").read_text(encoding="utf-8").splitlines()
    assert len(listed) == 20 and "column town" in listed[0]


def test_names_become_names_of_fields() -> None:
    names = ["Größe (m²)", "PassengerId", "class", "label", "age", "AGE ", "2nd", "年"]

    assert [*name_fields(names).values()] == [
        "groesse_m2",
        "passenger_id",
        "class_value",
        "label_value",
        "age",
        "age_2",
        "field_2nd",
        "column_8",
    ]
    assert to_field("HTTPStatus") == "http_status"


def test_numbers_are_read_as_people_write_them() -> None:
    assert to_number("1,234.50") == "1234.50"
    assert to_number("1.234,50 €", "€", comma=True) == "1234.50"
    assert to_number("(12)") == "-12"
    assert to_number("−3") == "-3"
    assert to_number("12a") is to_number("1,2") is to_number("") is None


@pytest.mark.parametrize(
    ("name", "cell", "is_identifier"),
    [
        ("no_rooms", lambda number: number % 7, False),
        ("key", lambda number: number % 12, False),
        ("price_index", lambda number: 90 + number % 20, False),
        ("Invoice No", lambda number: 4_000 + number // 3, True),
        ("user_id", lambda number: 4_000 + number // 3, True),
        ("key", lambda number: 4_000 + number * 3, True),
        ("column 7", lambda number: number + number // 9, True),  # rows were removed
    ],
)
def test_a_number_that_repeats_is_an_identifier_by_a_name_that_says_so(
    table: Write, name: str, cell: Callable[[int], Any], is_identifier: bool
) -> None:
    assert (name in plan_for(table(name, cell)).left_out) is is_identifier


@pytest.mark.parametrize(
    ("name", "cell", "is_personal"),
    [
        ("phone_minutes", lambda number: number * 1.7, False),
        ("email_count", lambda number: number * 7 % 41, False),
        ("customer_name_length", lambda number: number % 40, False),
        ("address_changes", lambda number: number * 3 % 50, False),
        ("mobile", lambda number: 1_515_000_000 + number * 7_919, True),
    ],
)
def test_a_count_is_no_personal_data_though_its_name_has_such_a_word(
    table: Write, name: str, cell: Callable[[int], Any], is_personal: bool
) -> None:
    reason = plan_for(table(name, cell)).left_out.get(name, "")

    assert ("personal data" in reason) is is_personal


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (lambda number: f"+34 612 {100 + number} 678", "telephone numbers"),
        (lambda number: 5_551_000_000 + number * 7_919, "numbers of 10 digits each"),
        (lambda number: f"DE89 3704 0044 0532 {1000 + number} 00", "bank accounts"),
        (lambda number: f"4111 1111 {1000 + number} 1111", "numbers of cards"),
        (lambda number: ["10000-20000", "20000-30000"][number % 4 > 1], ""),
        (lambda number: number * 1_234_567, ""),
    ],
)
def test_what_identifies_is_left_out_whatever_its_column_is_called(
    table: Write, cell: Callable[[int], Any], says: str
) -> None:
    reason = plan_for(table("col7", cell)).left_out.get("col7", "")

    assert says in reason and bool(says) is bool(reason)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("{}, Anna Z.", "col7 may have names of persons, such as"),
        ("write to {}@example.com", "col7 has e-mail addresses in its texts. Leave"),
        ("{} Street 12", "col7 may have addresses, such as"),
        ("{}str. 12", "col7 may have addresses, such as"),
    ],
)
def test_texts_that_may_be_of_persons_are_pointed_out(
    table: Write, cell: str, says: str
) -> None:
    letters = "abcdefghijklmnopqrstuvwxyzäöü"
    names = [f"{letters[n % 29]}{letters[n // 29]}".capitalize() for n in range(60)]
    file = table("col7", lambda number: cell.format(names[number]))

    assert [note for note in plan_for(file).notes if says in note]
    assert not [note for note in plan_for(file, text=["col7"]).notes if says in note]


def test_a_contract_that_has_lost_its_class_is_refused(table: Write) -> None:
    text = CONTRACT.replace("class Instance(", "class Claim(").replace(
        "(Instance)", "(Claim)"
    )

    assert write.find_kept(text, plan_for(table())) == set()
    with pytest.raises(Refusal, match="has no class Instance"):
        write.write_contract(text, plan_for(table()), set())


def test_a_category_may_be_called_like_a_vector() -> None:
    assert Field("a", "a", "Literal['list[', 'b']", "").kind is Kind.CATEGORY


def test_a_link_is_copied_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "0ab1").write_text("a,b", encoding="utf-8")
    (tmp_path / "claims.csv").symlink_to(tmp_path / "0ab1")

    assert place(tmp_path / "claims.csv") == Path("data/source/claims.csv")


def test_many_codes_are_no_feature_unless_they_are_named(
    table: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adopt.exclude.MANY_CODES", 20)
    codes = table("Tail", lambda number: f"N{number % 30}X")
    reason = plan_for(codes).left_out["Tail"]
    assert reason.startswith("codes, 30 of them") and "KEEP=Tail" in reason

    assert "Tail" not in plan_for(codes, keep=("Tail",)).left_out
    for sentence in ("a word {}", "水{}"):
        texts = table("Note", lambda number: sentence.format(number % 30))
        assert "Note" not in plan_for(texts).left_out


def test_a_table_of_more_columns_than_a_contract_can_have_is_refused(
    tmp_path: Path,
) -> None:
    names = [f"x{number}" for number in range(1_002)]
    file = tmp_path / "wide.csv"
    rows = [names, *[[str(number / 2)] * 1_002 for number in range(2)]]
    file.write_text("\n".join(map(",".join, rows)), encoding="utf-8")

    with pytest.raises(Refusal, match="1,001 columns to predict from; 1,000 at most"):
        plan_for(file, "x0")
    with pytest.raises(Refusal, match="too few"):  # 1,000 columns, of two rows
        plan_for(file, "x0", drop=["x1"], task="regression")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["GROUPS=z"], "takes no GROUPS. Did you mean GROUP in place of GROUPS?"),
        (["label=y", "Q=1"], "takes no Q, label. Did you mean LABEL in place of label"),
        (["MODEL=m.onnx", "LABEL=a"], "Did you mean LABELS in place of LABEL"),
        (["DATA=my file.csv", "LABEL=a GROUPS=b\\", "UV_OFFLINE=1", "YES=1"], ""),
    ],
)
def test_a_variable_that_is_no_option_is_refused(given: list[str], says: str) -> None:
    shown = 'all:;@echo "$$MAKELEVEL"; echo "$$MODEL"; printenv MAKEFLAGS'
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    printed = subprocess.check_output(
        ["make", "--keep-going", "--file", "-", *given],
        input=shown,
        text=True,
        env=own,
    )
    level, model, flags = printed.splitlines()
    passed = {"MAKELEVEL": level, "MODEL": model, "MAKEFLAGS": flags}

    if not says:
        check_names(passed)
        return
    with pytest.raises(Refusal, match=re.escape(says)):
        check_names(passed)
    check_names(passed | {"MAKELEVEL": "2"})  # of the make that called this one


def test_nothing_is_written_without_a_yes(table: Write) -> None:
    before = (ROOT / "app/contract.py").read_bytes()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; import adopt.__main__ as it\n"
            "it.adopt = lambda variables: it.agree(variables)\nsys.exit(it.main())",
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"MAKEFLAGS": ""},  # what make test was given
    )

    assert done.returncode == 1
    assert "Nothing was written: there is no terminal to ask. YES=1" in done.stderr
    assert (ROOT / "app/contract.py").read_bytes() == before


@pytest.fixture
def stops() -> Iterator[None]:
    """Signals stop this process as they stop `make adopt`, also if it ignored them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPS}
    stop_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("stops")
def test_what_dvc_runs_has_ended_before_files_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = f"(sleep 2; touch {tmp_path}/late) & sleep 0.5; kill -TERM {os.getpid()}"
    (tmp_path / "dvc").write_text(f"#!/bin/sh\n{stage}\nwait\n", encoding="utf-8")
    (tmp_path / "dvc").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(KeyboardInterrupt):
        run_dvc("repro")

    time.sleep(2)
    assert not (tmp_path / "late").exists()


@pytest.mark.usefixtures("stops")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_failure_leaves_every_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("contract.py", "claims.csv.dvc", "new.csv", "dvc.lock")
    for name in names[:2]:
        Path(name).write_text("old", encoding="utf-8")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "a")):
        subprocess.run([*git, *arguments], check=True)

    with pytest.raises(KeyboardInterrupt):
        with undone_on_failure([*map(Path, names)]):
            for name in names[:2]:
                Path(name).write_text("new", encoding="utf-8")
            subprocess.run(["git", "add", "claims.csv.dvc"], check=True)  # as DVC does
            Path("new.csv").write_text("new", encoding="utf-8")
            Path("data").mkdir()
            Path("data/raw.parquet").write_text("new", encoding="utf-8")
            os.kill(os.getpid(), number)
            time.sleep(1)

    assert Path("contract.py").read_text(encoding="utf-8") == "old"
    assert subprocess.check_output(["git", "status", "--short"]) == b""
