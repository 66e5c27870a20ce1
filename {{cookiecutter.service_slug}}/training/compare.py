"""Compare the model with the recipe of another commit: `make compare WITH=HEAD~1`.

The recipe is the `model` of that commit's reports/config.yaml. Today's code fits it and
the one of training/conf on today's training rows, and tests both on today's test rows:
no model is tested on rows that it has learned from. Nothing is written.
"""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import ValidationError
from sklearn.pipeline import Pipeline

from training.columns import read_inputs, read_labels
from training.corrections import read_tenants
from training.diagnosis import MIN_ROWS, cut_slices, score_rows
from training.gate import PRIMARY
from training.revision import git
from training.rows import read_rows
from training.schema import Schema, read_schema
from training.scores import Truth, score_primary
from training.stage import PipelineError, compose
from training.train import fit, label_names, predict
from training.values import Component, Config, ConfigError

REPORT = "reports/config.yaml"
DRAWS = 200  # of the bootstrap


def run(config: Config, commit: str) -> list[str]:
    """Return the lines of the comparison.

    Raises PipelineError if the recipe cannot be had or is the same.
    """
    recipe = read_recipe(commit)
    if recipe == config.model:
        raise PipelineError(
            f"{commit} has the recipe of today: {describe(recipe)}. Name a commit with "
            "another one: make compare WITH=HEAD~1"
        )
    schema = read_schema()
    train = read_rows(config.paths.train, schema.labelled)
    test = read_rows(config.paths.test, schema.labelled)
    print(
        f"Fitting on {len(train)} rows. {commit}: {describe(recipe)}; today: "
        f"{describe(config.model)}"
    )
    theirs = fit_recipe(recipe, schema, train)
    ours = fit_recipe(config.model, schema, train)
    truth = read_labels(schema, test)
    tenants = read_tenants(schema, test, config.corrections)
    return [
        f"{'':38}{'rows':>8}{commit[:12]:>14}{'today':>10}",
        *compare_slices(schema, test, truth, theirs, ours, tenants),
        conclude(schema, test, truth, theirs, ours, commit),
    ]


def read_recipe(commit: str) -> Component:
    """Return the model that a commit configures. Raises PipelineError."""
    try:
        content = yaml.safe_load(git("show", f"{commit}:./{REPORT}"))
        return Component.model_validate(content["model"])
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        raise PipelineError(
            f"{commit} has no {REPORT}: {reason.strip()}. Name a commit that has one, "
            "such as WITH=HEAD~1."
        ) from None
    except (ValidationError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"The recipe of {commit} is none that today's training/models.py knows: "
            f"{reason}"
        ) from None


def describe(recipe: Component) -> str:
    """Return a recipe in one line."""
    arguments = recipe.model_extra or {}
    shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return f"{recipe.target.rpartition('.')[2]}({shown})"


def fit_recipe(recipe: Component, schema: Schema, rows: pd.DataFrame) -> Pipeline:
    """Fit the model of a recipe. Raises PipelineError, as `fit`."""
    return fit(recipe.create().build(schema), schema, rows)


def compare_slices(
    schema: Schema,
    test: pd.DataFrame,
    truth: Truth,
    theirs: Pipeline,
    ours: Pipeline,
    tenants: "pd.Series[str]",
) -> list[str]:
    """Return a line for all rows and for each slice: rows, their metric, our metric."""
    inputs = read_inputs(schema, test)
    before, after = (
        score_rows(schema.task, truth, predict(model, inputs), label_names(model))
        for model in (theirs, ours)
    )
    slices = [
        ("all", np.ones(len(test), np.bool_)),
        *cut_slices(schema, test, tenants),
    ]
    return [
        f"{f'{after.name}, {name}'[:38]:38}{mask.sum():>8}"
        f"{before[mask].mean():>14.4f}{after[mask].mean():>10.4f}"
        for name, mask in slices
        if mask.sum() >= MIN_ROWS or name == "all"
    ]


def conclude(
    schema: Schema,
    test: pd.DataFrame,
    truth: Truth,
    theirs: Pipeline,
    ours: Pipeline,
    commit: str,
) -> str:
    """Say which is better by the metric of the task, or that the rows cannot tell.

    The interval is that of 95 % of the differences on draws of the test rows
    (bootstrap).
    """
    inputs, name = read_inputs(schema, test), PRIMARY[schema.task]
    outputs = [(model, predict(model, inputs)) for model in (theirs, ours)]

    def difference(rows: Any) -> float:
        before, after = (
            score_primary(schema.task, truth[rows], output[rows], label_names(model))
            for model, output in outputs
        )
        return after - before

    rng = np.random.default_rng(0)
    whole = np.arange(len(test))
    draws = [difference(rng.choice(whole, len(whole))) for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    found = f"{name} {difference(whole):+.4f} (95 %: {low:+.4f} to {high:+.4f})"
    if low > 0:
        return f"Today's model is better than that of {commit}: {found}."
    if high < 0:
        return f"The recipe of {commit} is better than today's: {found}."
    return f"Neither is better for sure on these rows: {found}."


def main() -> None:
    """Compare today's model with the recipe of the commit that is the argument."""
    try:
        print("\n".join(run(compose(), *(sys.argv[1:2] or ["HEAD"]))))
    except (ConfigError, PipelineError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
