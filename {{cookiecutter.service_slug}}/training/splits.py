"""How rows are split into those that a model learns from and those that test it."""

import math
import random
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

from serving.contract import Task
from training.columns import read_labels
from training.schema import GROUP, TIME, Schema
from training.stage import PipelineError
from training.values import Config

Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


class SplitKind(StrEnum):
    """What decides on which side a row is."""

    FILE = "file"
    TIME = "time"
    GROUP = "group"
    RANDOM = "random"


def find_kind(
    schema: Schema, rows: pd.DataFrame, config: Config | None = None
) -> SplitKind:
    """Return how rows are split.

    A test file of one's own (`data.test_path`) decides, else the time of the rows if
    they have one, else their groups if any has one.
    """
    if config and getattr(config.data, "test_path", None):
        return SplitKind.FILE
    if schema.has_time and rows[TIME].notna().any():
        return SplitKind.TIME
    if schema.has_group and has_group(rows).any():
        return SplitKind.GROUP
    return SplitKind.RANDOM


def draw_test(
    schema: Schema, rows: pd.DataFrame, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Return a mask of the test rows, about `share` of all.

    By time, they are the latest. Else they are random: of each label, if there are
    labels. Rows of one group are on one side.
    """
    kind = find_kind(schema, rows)
    if kind is SplitKind.TIME:
        return _draw_latest(schema, rows, share)
    is_regression = schema.task is Task.REGRESSION
    if kind is SplitKind.GROUP and is_regression:
        groups = read_groups(rows)
        if groups.nunique() < 2:  # training.prepare.check_sides refuses this
            return np.zeros(len(rows), np.bool_)
        parts = GroupShuffleSplit(1, test_size=share, random_state=seed)
        ((_, places),) = parts.split(rows, groups=groups)
        return np.isin(np.arange(len(rows)), places)
    if kind is SplitKind.GROUP:
        return _draw_groups(rows, read_labels(schema, rows), share, seed)
    strata = np.zeros(len(rows)) if is_regression else read_labels(schema, rows)
    return _draw_rows(strata, share, seed)


def draw_folds(schema: Schema, rows: pd.DataFrame, folds: int, seed: int) -> list[Fold]:
    """Return the places of the training and the validation rows of each fold.

    The folds are split as training and test are. Raises PipelineError if there are too
    few rows, or if a fold would learn from rows of one label only.
    """
    labels = read_labels(schema, rows)
    drawn = _draw_folds(schema, rows, labels, folds, seed)
    if schema.task is Task.REGRESSION:
        return drawn
    is_by_time = find_kind(schema, rows) is SplitKind.TIME
    for number, (learned, _) in enumerate(drawn, start=1):
        if len(found := set(labels[learned])) < 2:
            raise PipelineError(
                f"Fold {number} of {folds} has {len(learned)} rows to learn from, all "
                f"of the label {min(found)!r}. Add "
                f"{'earlier ' if is_by_time else ''}rows of the other labels."
            )
    return drawn


def _draw_folds(
    schema: Schema,
    rows: pd.DataFrame,
    labels: npt.NDArray[Any],
    folds: int,
    seed: int,
) -> list[Fold]:
    kind = find_kind(schema, rows)
    is_regression = schema.task is Task.REGRESSION
    shuffled = {"shuffle": True, "random_state": seed}
    try:
        if kind is SplitKind.TIME:
            order = rows[TIME].reset_index(drop=True).sort_values(kind="stable").index
            parts = TimeSeriesSplit(folds).split(order)
            places = order.to_numpy()
            return [(places[learned], places[held]) for learned, held in parts]
        if kind is SplitKind.GROUP:
            grouped = GroupKFold if is_regression else StratifiedGroupKFold
            parts = grouped(folds, **shuffled).split(rows, labels, read_groups(rows))
            return list(parts)
        plain = KFold if is_regression else StratifiedKFold
        return list(plain(folds, **shuffled).split(rows, labels))
    except ValueError as error:
        fewer = " or lower validation.folds" if folds > 2 else ""
        raise PipelineError(
            f"Cross-validation in {folds} folds is not possible: {error} "
            f"Add rows{fewer}."
        ) from None


def read_groups(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the group of each row. A row without one is a group of its own."""
    own = pd.Series([f"\0{place:09}" for place in range(len(rows))], rows.index)
    return rows[GROUP].astype(str).where(has_group(rows), own)


def has_group(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows have a group."""
    return rows[GROUP].notna() & (rows[GROUP].astype(str) != "")


def _draw_latest(
    schema: Schema, rows: pd.DataFrame, share: float
) -> npt.NDArray[np.bool_]:
    times = rows[TIME].dropna().sort_values()
    begin = times.iloc[math.floor(len(times) * (1 - share))]
    is_later = (rows[TIME] >= begin).fillna(False)  # rows without a time: training
    in_test: npt.NDArray[np.bool_] = is_later.to_numpy(np.bool_)
    if schema.has_group:  # groups with an earlier row: training
        groups = read_groups(rows)
        return in_test & ~groups.isin(set(groups[~in_test])).to_numpy(np.bool_)
    return in_test


def _draw_groups(
    rows: pd.DataFrame, labels: npt.NDArray[np.object_], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw about `share` of the groups of each label.

    scikit-learn's StratifiedGroupKFold balances rows, so rare labels may go untested.
    """
    groups = read_groups(rows)
    rng = random.Random(seed)
    side: dict[str, bool] = {}
    for _, members in sorted(groups.groupby(labels)):
        names = sorted(set(members))
        wanted = max(1, math.floor(len(names) * share + 0.5))
        wanted -= sum(side.get(name, False) for name in names)
        free = [name for name in names if name not in side]
        rng.shuffle(free)
        side.update((name, place < wanted) for place, name in enumerate(free))
    return groups.map(side).to_numpy(np.bool_)


def _draw_rows(
    strata: npt.NDArray[np.generic], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw about `share` of the rows of each stratum, and one of each at least.

    scikit-learn's StratifiedShuffleSplit refuses strata of one row.
    """
    shuffled = pd.Series(strata).sample(frac=1, random_state=seed)
    place = shuffled.groupby(shuffled).cumcount()
    count = shuffled.groupby(shuffled).transform("size")
    wanted = np.maximum(1, np.floor(count * share + 0.5))
    in_test: npt.NDArray[np.bool_] = (place < wanted).sort_index().to_numpy(np.bool_)
    return in_test
