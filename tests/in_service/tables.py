"""Public tables as the data of a service, and what plain scikit-learn makes of them.

python tables.py write NAME    writes data/source/data.parquet
python tables.py score NAME    prints the score on the rows that the service split
"""

import sys

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
SERUM = ["s1", "s2", "s3", "s4", "s5", "s6"]


def read(name: str) -> pd.DataFrame:
    """The rows of a table, with their label."""
    if name == "wine":
        wine = datasets.load_wine(as_frame=True)
        rows = wine.data.rename(columns=lambda name: name.replace("/", "_"))
        return rows.assign(label=wine.target_names[wine.target])
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


def score(name: str) -> float:
    """Fit by hand on data/train.parquet, and score on data/test.parquet."""
    train, test = (
        pd.read_parquet(f"data/{part}.parquet") for part in ("train", "test")
    )
    if name == "diabetes":
        tables = [
            part.join(pd.DataFrame(part["serum"].tolist())) for part in (train, test)
        ]
        learned, tested = (
            table.drop(columns=["serum", "label"]).rename(columns=str)
            for table in tables
        )
        columns = make_column_transformer(
            (OneHotEncoder(), ["sex"]),
            (SimpleImputer(strategy="median", add_indicator=True), ["bmi"]),
            remainder="passthrough",
        )
        ridge = make_pipeline(columns, StandardScaler(), Ridge(1 / STRENGTH))
        predicted = ridge.fit(learned, train["label"]).predict(tested)
        return float(r2_score(test["label"], predicted))
    learned, tested = train.drop(columns="label"), test.drop(columns="label")
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000)
    )
    predicted = model.fit(learned, train["label"]).predict(tested)
    return float(f1_score(test["label"], predicted, average="macro"))


if __name__ == "__main__":
    verb, chosen = sys.argv[1:]
    if verb == "write":
        read(chosen).to_parquet("data/source/data.parquet")
    else:
        print(score(chosen))
