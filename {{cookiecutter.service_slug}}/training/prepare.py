"""Stage 2: clean the rows and split them so that no template is on both sides."""

import logging
import math
import random

import pandas as pd

from training.files import read_rows, write_rows
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Write `paths.train` and `paths.test`.

    Raises PipelineError if a label has too few templates for both.
    """
    rows = clean(read_rows(config.paths.raw))
    in_test = split(rows, config.split.test_share, config.seed)
    train, test = rows[~in_test], rows[in_test]

    untested = sorted(set(rows["label"]) - set(test["label"]))
    unlearned = sorted(set(rows["label"]) - set(train["label"]))
    if untested or unlearned or rows["label"].nunique() < 2:
        few = ", ".join(untested + unlearned) or "the only label"
        raise PipelineError(
            "Training needs at least two labels, each with at least two templates "
            f"(rows, if there are no templates) of its own. Too few for: {few}. "
            "Add rows, or remove these labels."
        )

    write_rows(config.paths.train, train)
    write_rows(config.paths.test, test)
    logger.info("%d rows to train on, %d to test on", len(train), len(test))


def clean(rows: pd.DataFrame) -> pd.DataFrame:
    """Drop duplicate texts, and texts with more than one label."""
    labels = rows.groupby("text")["label"].transform("nunique")
    contradictory = labels > 1
    repeated = rows.duplicated("text") & ~contradictory
    if contradictory.any() or repeated.any():
        logger.info(
            "Dropped %d rows whose text has several labels, %d duplicates",
            contradictory.sum(),
            repeated.sum(),
        )
    return rows[~contradictory & ~repeated].reset_index(drop=True)


def split(rows: pd.DataFrame, test_share: float, seed: int) -> "pd.Series[bool]":
    """Return a mask of the test rows: about `test_share` of each label's templates.

    Sentences of one template differ in a word or two. On both sides, they would reward
    memorisation. A row without a template counts as a template of its own.
    scikit-learn's StratifiedGroupKFold balances rows and may not test rare labels.
    """
    template = rows["template"].where(rows["template"] != "", rows["text"])
    rng = random.Random(seed)
    side: dict[str, bool] = {}
    for _, templates in sorted(template.groupby(rows["label"])):
        names = sorted(set(templates))
        wanted = max(1, math.floor(len(names) * test_share + 0.5))
        wanted -= sum(side.get(name, False) for name in names)
        free = [name for name in names if name not in side]
        rng.shuffle(free)
        side.update((name, place < wanted) for place, name in enumerate(free))
    return template.map(side).astype(bool)


if __name__ == "__main__":
    command(run)()
