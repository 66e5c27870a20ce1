"""Fits a model with any number of labels; benchmarks.labels runs it inside a service.

    python fitting.py NUMBER DIRECTORY

The sentences are the service's own, and so are the form of the model and its export.
Labels are dealt out by the hashes of the sentences: what a prediction costs depends on
how many labels there are, not on what they mean.
"""

import hashlib
import sys
import warnings
from pathlib import Path

import joblib
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from training import export
from training.rows import read_rows, write_rows
from training.schema import read_schema
from training.stage import compose
from training.train import fit

# Enough for weights that are not zero; what is learned from a hash does not matter.
ITERATIONS = 5


def main(number: int, directory: Path) -> None:
    """Write model.onnx and model.json into the directory."""
    config, schema = compose(), read_schema()
    rows = relabel(read_rows(config.paths.train), number)
    pipeline = config.model.create().build(schema)
    pipeline.named_steps["estimator"].set_params(max_iter=ITERATIONS)
    warnings.simplefilter("ignore", ConvergenceWarning)

    moved = {
        "model": directory,
        "train": directory / "train.parquet",
        "pipeline": directory / "pipeline.joblib",
    }
    paths = config.paths.model_copy(update=moved)
    write_rows(paths.train, rows)
    joblib.dump(fit(pipeline, schema, rows), paths.pipeline)
    # Another fit, on the test rows, too, would take as long again.
    export.run(config.model_copy(update={"paths": paths, "refit": False}))


def relabel(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the same rows with labels of which there are `number`.

    Raises ValueError if there are too few rows to give each label one.
    """
    order = rows["text"].map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    rows = rows.loc[order.sort_values().index]
    if len(rows) < number:
        raise ValueError(f"{number} labels need as many rows; there are {len(rows)}.")
    labels = [f"label-{place % number:04}" for place in range(len(rows))]
    return rows.assign(label=labels)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
