"""Stage 3: fit the model.

It also compares models: `python -m training.train -m model=words,characters,bayes` fits
each and ranks them by cross-validation on the training rows. It neither reads the test
rows nor changes the files of the pipeline.
"""

import io
import logging
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from training.files import read_rows, write_bytes, write_json
from training.stage import PipelineError, command, in_sweep
from training.values import Config

logger = logging.getLogger(__name__)


def run(config: Config) -> float:
    """Write `paths.pipeline` and `paths.training`; return the validation macro-F1."""
    rows = read_rows(config.paths.train)
    pipeline: Pipeline = config.model.create()
    score = cross_validate(pipeline, rows, config.validation.folds, config.seed)
    fit(pipeline, rows)

    content = io.BytesIO()
    joblib.dump(pipeline, content)
    write_bytes(_in_sweep(config.paths.pipeline), content.getvalue())
    facts = {
        "validation_macro_f1": round(score, 4),
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(_in_sweep(config.paths.training), facts)
    logger.info("Fitted on %d rows; validation macro-F1 %.3f", len(rows), score)
    return score


def fit(pipeline: Pipeline, rows: pd.DataFrame) -> Pipeline:
    """Fit on one thread, so that the bytes of the model do not depend on BLAS threads.

    Raises PipelineError if scikit-learn rejects the parameters or the rows.
    """
    try:
        with threadpool_limits(1):
            return pipeline.fit(rows["text"], rows["label"])
    except ValueError as error:
        raise PipelineError(f"The model cannot be fitted: {error}") from None


def cross_validate(
    pipeline: Pipeline, rows: pd.DataFrame, folds: int, seed: int
) -> float:
    """Return the mean macro-F1 over folds that share no template.

    Raises PipelineError if there are too few rows for the folds.
    """
    template = rows["template"].where(rows["template"] != "", rows["text"])
    scores: list[float] = []
    try:
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        splits = list(parts.split(rows["text"], rows["label"], template))
    except ValueError as error:
        raise PipelineError(
            f"Cross-validation in {folds} folds is not possible: {error} Add rows or "
            "lower validation.folds."
        ) from None
    for rest, held_out in splits:
        model = fit(clone(pipeline), rows.iloc[rest])
        truth = rows["label"].iloc[held_out]
        predicted = model.predict(rows["text"].iloc[held_out])
        scores.append(f1_score(truth, predicted, average="macro", zero_division=0))
        logger.info("Fold %d of %d: macro-F1 %.3f", len(scores), folds, scores[-1])
    return float(np.mean(scores))


def _in_sweep(path: Path) -> Path:
    """Return the path. In a sweep, move it into the directory of the job."""
    if not in_sweep():
        return path
    return Path(HydraConfig.get().runtime.output_dir) / path.name


if __name__ == "__main__":
    command(run)()
