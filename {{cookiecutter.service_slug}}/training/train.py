"""Stage 4: fit the model.

It also compares models: `python -m training.train -m model=linear,characters,bayes`
fits each and ranks them by cross-validation on the training rows. It does not read the
test rows.
"""

import io
import logging
import time
from datetime import UTC, datetime

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from training.columns import read_inputs, read_labels
from training.files import write_bytes, write_json
from training.gate import PRIMARY
from training.models import Family
from training.progress import show_progress
from training.rows import read_rows
from training.runs import record_training
from training.schema import Schema, read_schema
from training.scores import Output, score_primary
from training.splits import draw_folds
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)

WRITTEN = ("pipeline", "training")


def run(config: Config) -> float:
    """Write `paths.pipeline` and `paths.training`; return the validation score."""
    schema = read_schema()
    rows = read_rows(config.paths.train, schema.labelled)
    family: Family = config.model.create()
    pipeline = family.build(schema)
    scores = cross_validate(
        pipeline, schema, rows, config.validation.folds, config.seed
    )
    score = float(np.mean(scores))
    fit(pipeline, schema, rows)

    content = io.BytesIO()
    joblib.dump(pipeline, content)
    write_bytes(config.paths.pipeline, content.getvalue())
    name = PRIMARY[schema.task]
    facts = {
        f"validation_{name}": round(score, 4),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(config.paths.training, facts)
    logger.info("Fitted on %d rows; validation %s %.3f", len(rows), name, score)
    return score


def fit(pipeline: Pipeline, schema: Schema, rows: pd.DataFrame) -> Pipeline:
    """Fit on one thread, so that the bytes of the model do not depend on threads.

    Raises PipelineError if scikit-learn rejects the parameters or the rows.
    """
    inputs, labels = read_inputs(schema, rows), read_labels(schema, rows)
    try:
        with threadpool_limits(1), show_progress(pipeline):
            return pipeline.fit(inputs, labels)
    except ValueError as error:
        raise PipelineError(f"The model cannot be fitted: {error}") from None


def predict(pipeline: Pipeline, inputs: pd.DataFrame) -> Output:
    """Return probabilities of shape (rows, labels), or values of shape (rows, 1)."""
    if hasattr(pipeline, "classes_"):
        return np.asarray(pipeline.predict_proba(inputs), np.float64)
    return np.asarray(pipeline.predict(inputs), np.float64).reshape(-1, 1)


def label_names(pipeline: Pipeline) -> list[str]:
    """Return the labels in the order of the probabilities; none of a regression."""
    return [str(label) for label in getattr(pipeline, "classes_", ())]


def cross_validate(
    pipeline: Pipeline, schema: Schema, rows: pd.DataFrame, folds: int, seed: int
) -> list[float]:
    """Return the score of each fold; folds are split as training and test are.

    Raises PipelineError if there are too few rows for the folds.
    """
    scores: list[float] = []
    for learned, held_out in draw_folds(schema, rows, folds, seed):
        begin = time.perf_counter()
        model = fit(clone(pipeline), schema, rows.iloc[learned])
        tested = rows.iloc[held_out]
        scores.append(
            score_primary(
                schema.task,
                read_labels(schema, tested),
                predict(model, read_inputs(schema, tested)),
                label_names(model),
            )
        )
        logger.info(
            "Fold %d of %d: %s %.3f, fitted on %d rows in %.1f s",
            len(scores),
            folds,
            PRIMARY[schema.task],
            scores[-1],
            len(learned),
            time.perf_counter() - begin,
        )
    return scores


if __name__ == "__main__":
    command(run, record_training, WRITTEN)()
