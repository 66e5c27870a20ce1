"""Adopt a table, ask the service for rows that it has not seen, and do it by hand.

`python adopted.py FILE LABEL [OPTION=value …]` in the directory of a service prints a
line of JSON: the score of the served model and of scikit-learn with the same family on
the same rows, and the seconds from the command to the first answer.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

# As `make adopt` does it; and without DVC, with all stages in one process.
IN_STAGES = "from adopt.__main__ import main; raise SystemExit(main())"
IN_ONE_PROCESS = """
import os, subprocess, sys
import adopt.__main__ as command
def run(*arguments, check=True):
    if arguments[0] == "repro":
        variables = os.environ | {"DVC_STAGE": "all"}  # else it is a trial
        subprocess.run([sys.executable, "-m", "training"], check=True, env=variables)
command.run_dvc = run
raise SystemExit(command.main())
"""

HELD_OUT, BATCH, MOST_ASKED = 0.25, 200, 4_000


def ask(url: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The predictions of rows; one that is refused has none."""
    body = json.dumps({"instances": rows}).encode()
    request = Request(f"{url}/v1/predict", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as response:
            found: list[dict[str, Any]] = json.load(response)["predictions"]
            return found
    except HTTPError as error:
        if len(rows) == 1:
            print(error.read().decode(), file=sys.stderr)
            return [{}]
        return [answer for row in rows for answer in ask(url, [row])]


def to_json(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as a client sends them: a gap is left out."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def by_hand(
    family: str, is_regression: bool, kinds: dict[str, str], train: pd.DataFrame
) -> Any:
    """A model of scikit-learn of the same family, fitted."""
    numbers = [name for name in kinds if kinds[name] in ("number", "flag")]
    categories = [name for name in kinds if kinds[name] == "category"]
    texts = [name for name in kinds if kinds[name] == "text"]
    filled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    steps: list[Any] = [
        ("numbers", filled if family == "linear" else "passthrough", numbers),
        ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
        *((name, TfidfVectorizer(max_features=1_000), name) for name in texts),
    ]
    columns = ColumnTransformer(steps, sparse_threshold=0)
    estimator: Any = LogisticRegression(C=30, max_iter=1_000)
    if family == "linear" and is_regression:
        estimator = Ridge(alpha=1 / 30)
    elif family == "boosting":
        kind = HistGradientBoostingClassifier
        if is_regression:
            kind = HistGradientBoostingRegressor
        estimator = kind(max_iter=100, early_stopping=False, random_state=0)
    return make_pipeline(columns, estimator).fit(train[list(kinds)], train["label"])


def prepare(frame: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """The columns as the estimator by hand reads them."""
    frame = frame.copy()
    for name, kind in kinds.items():
        if kind in ("text", "category"):
            frame[name] = frame[name].astype(object).where(frame[name].notna(), "")
            frame[name] = frame[name].astype(str)
        else:
            frame[name] = frame[name].astype(float)
    return frame


def main(file: Path, label: str, *options: str) -> None:
    """Print what was measured."""
    frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    frame = frame[frame[label].notna()].reset_index(drop=True)
    train, held = train_test_split(frame, test_size=HELD_OUT, random_state=1)
    held = held.head(MOST_ASKED)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, file.stem + ".csv")
        train.to_csv(data, index=False)
        given = dict(option.split("=", 1) for option in options)
        variables = {**os.environ, "DATA": str(data), "LABEL": label, "YES": "1"}
        begin = time.perf_counter()
        code = IN_ONE_PROCESS if given.pop("STAGES", "") == "together" else IN_STAGES
        subprocess.run(
            [sys.executable, "-c", code],
            env={**variables, **given},
            check=True,
            stdout=sys.stderr,
        )
    from training.stage import compose

    from serving.testing import started

    with Path("training/conf/data/adopted.yaml").open(encoding="utf-8") as text:
        source = yaml.safe_load(text)
    names = {column: field for field, column in source["columns"].items()}
    ours = {column: field for column, field in names.items() if column in frame}
    train, held = (one.rename(columns=ours) for one in (train, held))
    fields = [
        field for field in ours.values() if field not in ("label", "group", "time")
    ]
    with started(LOG_LEVEL="error") as service:
        rows = to_json(held[fields])
        answers = ask(service.url, rows[:1])
        seconds = time.perf_counter() - begin
        for start in range(1, len(rows), BATCH):
            answers += ask(service.url, rows[start : start + BATCH])
        with urlopen(f"{service.url}/v1/model", timeout=10) as response:
            model = json.load(response)
    is_regression = model["task"] == "regression"
    family = compose().model.target.rpartition(".")[2]
    kinds = {name: kind for name, kind in model["fields"].items()}
    train, held = prepare(train, kinds), prepare(held, kinds)
    if is_regression:
        hand = by_hand(family, True, kinds, train).predict(held[list(kinds)])
        served = [answer.get("value", np.nan) for answer in answers]
        scores = [r2_score(held["label"], one) for one in (served, hand)]
    else:
        if pd.api.types.is_float_dtype(train["label"]):  # pandas makes them of gaps
            train["label"], held["label"] = (
                one["label"].astype(int) for one in (train, held)
            )
        train["label"], held["label"] = (
            one["label"].map(
                lambda value: (
                    str(value).lower() if isinstance(value, bool) else str(value)
                )
            )
            for one in (train, held)
        )
        hand = by_hand(family, False, kinds, train).predict(held[list(kinds)])
        served = [answer.get("label", "") for answer in answers]
        scores = [
            f1_score(
                held["label"], one, average="macro", labels=sorted({*held["label"]})
            )
            for one in (served, hand)
        ]
    measured = {
        "table": file.name,
        "rows": len(frame),
        "fields": len(kinds),
        "task": model["task"],
        "family": family,
        "served": round(float(scores[0]), 4),
        "by_hand": round(float(scores[1]), 4),
        "refused": sum(not answer for answer in answers),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
