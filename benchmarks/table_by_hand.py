"""The steps of a training pipeline by hand; benchmarks.table runs it in a service.

python table_by_hand.py make ROWS
python table_by_hand.py learn
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

FILE = Path("data/source/rows.parquet")
CARRIERS = ["a", "b", "c", "d"]
LABELS = ["late", "on time"]
FOLDS = 3


def make(number: int) -> None:
    """Write rows in which the label depends on all fields, and some have gaps."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "distance": rng.gamma(2, 5, number),
            "hour": rng.integers(0, 24, number),
            "stops": pd.Series(rng.integers(0, 9, number), dtype="Int64"),
            "carrier": rng.choice(CARRIERS, number),
            "weekend": rng.random(number) < 2 / 7,
        }
    )
    rows.loc[rng.random(number) < 0.05, "stops"] = pd.NA
    odds = (
        0.1 * rows["distance"]
        + 0.1 * (rows["hour"] - 12)
        + 0.2 * rows["stops"].fillna(4).astype(float)
        - 0.5 * (rows["carrier"] == "a")
        - rows["weekend"]
        - 1.5
    )
    late = rng.random(number) < 1 / (1 + np.exp(-odds))
    rows["label"] = np.where(late, *LABELS)
    rows.to_parquet(FILE, index=False)


def learn() -> None:
    """Read, validate, split, cross-validate, fit and evaluate."""
    rows = pd.read_parquet(FILE)
    validate(rows)
    train, test = train_test_split(
        rows, test_size=0.25, random_state=0, stratify=rows["label"]
    )
    model = build()
    for learned, held_out in StratifiedKFold(FOLDS).split(train, train["label"]):
        part = train.iloc[learned]
        fitted = clone(model).fit(part, part["label"])
        predicted = fitted.predict(train.iloc[held_out])
        truth = train["label"].iloc[held_out]
        print(f1_score(truth, predicted, average="macro"))
    model.fit(train, train["label"])
    joblib.dump(model, "outputs/by-hand.joblib")
    evaluate(model, test)


def validate(rows: pd.DataFrame) -> None:
    """Raise ValueError if a value is not as it should be."""
    right = (
        np.isfinite(rows["distance"])
        & (rows["distance"] >= 0)
        & rows["hour"].between(0, 23)
        & (rows["stops"].isna() | (rows["stops"] >= 0))
        & rows["carrier"].isin(CARRIERS)
        & rows["weekend"].isin([True, False])
        & rows["label"].isin(LABELS)
    )
    if not right.all():
        raise ValueError(f"{(~right).sum()} rows are wrong")


def build() -> Pipeline:
    """Return the pipeline: one-hot categories, filled and scaled numbers."""
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler()
    )
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            ("numbers", numbers, ["distance", "hour", "stops", "weekend"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression(C=30, max_iter=1_000))


def evaluate(model: Pipeline, test: pd.DataFrame) -> None:
    """Print the metrics, the slices and the importance of each field."""
    truth, late = test["label"], test["label"] == "late"
    probabilities = model.predict_proba(test)
    predicted = model.classes_[probabilities.argmax(axis=1)]
    print("macro_f1", f1_score(truth, predicted, average="macro"))
    print("accuracy", accuracy_score(truth, predicted))
    print("roc_auc", roc_auc_score(late, probabilities[:, 0]))
    print("pr_auc", average_precision_score(late, probabilities[:, 0]))
    print("log_loss", log_loss(truth, probabilities))
    right = pd.Series(predicted == truth, test.index)
    print(right.groupby(test["carrier"]).mean())
    some = test.head(2_000)
    print(permutation_importance(model, some, some["label"], n_repeats=3).importances)


if __name__ == "__main__":
    make(int(sys.argv[2])) if sys.argv[1] == "make" else learn()
