"""A service of another contract: four edits, and everything follows.

The contract, the samples, the data and the configuration are edited, as CONTRIBUTING.md
of a service says. Then it trains, serves, and passes its own tests.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Service, copy

IN_SERVICE = Path(__file__).parent / "in_service"
TABLES = IN_SERVICE / "tables.py"


@dataclass(frozen=True)
class Table:
    """A public table as a contract: its fields, its label, a sample and a gate."""

    fields: str
    label: str
    sample: dict[str, object]
    gate: str


WINE = (
    *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium"),
    *("total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"),
    *("color_intensity", "hue", "od280_od315_of_diluted_wines", "proline"),
)
TABLES_BY_NAME = {
    "wine": Table(
        "".join(f"    {name}: float\n" for name in WINE),
        "str",
        dict.fromkeys(WINE, 2.5),
        "macro_f1: 0.9",
    ),
    "diabetes": Table(
        "    age: Annotated[float, Field(ge=0, le=120)]\n"
        '    sex: Literal["a", "b"]\n'
        "    bmi: float | None = None\n"
        "    pressure: float\n"
        "    serum: Annotated[list[float], Field(min_length=6, max_length=6)]\n",
        "float",
        {
            "age": 59.0,
            "sex": "b",
            "bmi": None,
            "pressure": 101.0,
            "serum": [157.0, 93.2, 38.0, 4.0, 4.86, 87.0],
        },
        "r2: 0.3",
    ),
}


def adapt(service: Service, name: str) -> Service:
    """Give a service the contract, samples, data and configuration of a table."""
    table = TABLES_BY_NAME[name]
    contract = service.read("app/contract.py")
    for pattern, new in (
        (r"    text: Annotated\[.*?\n    \]\n", table.fields),
        (r"    label: .*?(?=\n\n\nclass PredictRequest)", f"    label: {table.label}"),
    ):
        contract, found = re.subn(pattern, new, contract, count=1, flags=re.DOTALL)
        assert found == 1, pattern
    unused = ("AfterValidator", "StringConstraints", "field_validator")
    for imported in unused:
        contract = contract.replace(f"    {imported},\n", "")
    contract = contract.replace("from serving.fields import normalise\n", "")
    write(service, "app/contract.py", contract)

    samples = service.read("app/examples.py")
    other = {
        name: value + 7 if isinstance(value, float) else value
        for name, value in table.sample.items()
    }
    shown = f"EXAMPLES: list[JsonDict] = {[table.sample, other]!r}\n"
    pattern = r"EXAMPLES: list\[JsonDict\] = \[.*?\n\]\n"
    write(
        service,
        "app/examples.py",
        re.sub(pattern, lambda _: shown, samples, flags=re.S),
    )

    replace(service, "training/conf/config.yaml", "data: intents", "data: csv")
    replace(service, "training/conf/config.yaml", "macro_f1: 0.85", table.gate)
    replace(service, "training/conf/experiment/debug.yaml", "macro_f1: 0.5", table.gate)
    replace(service, "training/conf/data/csv.yaml", "data.csv", "data.parquet")
    service.run("python", str(TABLES), "write", name)
    return service


def write(service: Service, file: str, content: str) -> None:
    """Write a file of a service."""
    (service.path / file).write_text(content, encoding="utf-8")


def replace(service: Service, file: str, old: str, new: str) -> None:
    """Replace a text that a file of a service has."""
    content = service.read(file)
    assert old in content
    write(service, file, content.replace(old, new))


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("name", TABLES_BY_NAME)
def test_a_public_table_trains_as_by_hand_and_is_served(
    default: Service, tmp_path: Path, name: str
) -> None:
    service = adapt(copy(default, tmp_path), name)

    service.run("python", "-m", "training")
    by_hand = float(service.run("python", str(TABLES), "score", name).stdout)
    asked = service.run("python", "-m", "serving.testing", "python", "-m", "demo.ask")

    metrics = json.loads(service.read("reports/metrics.json"))
    score = metrics.get("macro_f1", metrics.get("r2"))
    assert score == pytest.approx(by_hand, abs=0.01)
    said, *answers = asked.stdout.splitlines()[1:]
    assert re.match(r"Model \w{12} at http", said), asked.stdout
    assert len(answers) == 2, asked.stdout


@pytest.mark.slow(seconds=120)
def test_a_service_that_predicts_a_number_passes_its_own_tests(
    default: Service, tmp_path: Path
) -> None:
    service = adapt(copy(default, tmp_path), "diabetes")

    # The tests of the engine know no contract: those of the default service suffice.
    own = ("tests/app", "tests/training", "tests/bench", "tests/monitoring")
    output = service.run("pytest", "-q", *own).stdout

    assert re.search(r"\d+ passed", output)


@pytest.mark.slow(seconds=60)
def test_contracts_that_nobody_has_written_train_and_serve(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    shutil.copy(
        IN_SERVICE / "generated.py", service.path / "tests" / "test_generated.py"
    )

    service.run("mypy")
    service.run("pytest", "-q", "tests/test_generated.py")
