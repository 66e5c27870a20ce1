"""Write a page with the metrics, plots and mistakes of the model: `make report`."""

import base64
import html
import io
import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from serving.contract import Task
from training.files import read_json, write_text
from training.rows import read_table
from training.schema import read_schema
from training.stage import command
from training.values import Config

logger = logging.getLogger(__name__)

# A label such as $100_to_$200 is not to be read as a formula.
plt.rcParams["text.parse_math"] = False

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

# More labels or slices than these cannot be read in a picture; the worst are drawn.
MAX_LABELS = 60

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$name: model report</title>
<style>
  body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; }
  img { max-width: 100%; }
  td, th { padding: 0 1rem 0 0; text-align: left; vertical-align: top; }
</style>
<h1>$name: model report</h1>
$sections
</html>
""")
SECTION = Template("<h2>$title</h2>\n<p>$text</p>\n$body\n")


def run(config: Config) -> None:
    """Write `paths.report` from the files of the evaluation."""
    name = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["name"]
    metrics, plots = read_json(config.paths.metrics), config.paths.plots
    plt.switch_backend("agg")
    sections = [
        SECTION.substitute(title=html.escape(title), text=text, body=body)
        for title, text, body in describe(metrics, plots, config.threshold)
    ]
    page = PAGE.substitute(name=html.escape(name), sections="\n".join(sections))
    write_text(config.paths.report, page)
    logger.info("Open %s", config.paths.report.resolve().as_uri())


def describe(
    metrics: dict[str, Any], plots: Path, threshold: float | None
) -> Iterator[tuple[str, str, str]]:
    """Yield title, text and body of each section."""
    values = pd.DataFrame(metrics.items(), columns=["metric", "value"])
    yield "Metrics on the test rows", "The model has not seen these rows.", show(values)
    for name in metrics:
        if name.endswith("_random_split"):
            score = name.removesuffix("_random_split")
            yield "Why not a random split?", (
                f"{score} is <b>{metrics[score]:.3f}</b> on the test rows. A random "
                f"split of the same rows would show <b>{metrics[name]:.3f}</b>, as its "
                "training rows have near-copies of its test rows, or know their "
                "future. Users will see the first figure."
            ), ""
    if read_schema().task is Task.CLASSIFICATION:
        yield from describe_labels(plots, threshold)
    else:
        yield from describe_values(plots)

    yield "Slices", (
        "The metric on the test rows of each category, flag and group, where a value "
        "is missing, and on the corrections of each tenant; the worst come first. "
        "Slices of few rows are left out."
    ), show(read_table(plots / "slices.json"))
    yield "Importance of each field", (
        "How much the score falls if the values of a field are shuffled among the "
        "rows. A field near 0 may not be needed, or another tells the same."
    ), encode(draw_importance(read_table(plots / "importance.json")))
    worst = read_table(plots / "worst.json")
    yield "Worst mistakes", (
        "The test rows on which the model is most wrong. A wrong label among them is "
        "worth a correction of the data."
    ), show(worst)


def describe_labels(
    plots: Path, threshold: float | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the sections of a classification."""
    f1, confusion = read_table(plots / "f1.json"), read_table(plots / "confusion.json")
    shown = f1.head(MAX_LABELS)
    which = "" if len(shown) == len(f1) else f" The worst {MAX_LABELS} are shown."
    yield "F1 of each label", f"{len(f1)} labels.{which}", encode(draw_f1(shown))
    yield "Confusion matrix", (
        f"The share of the rows of each label that get each label.{which}"
    ), encode(draw_confusion(confusion, list(shown["label"])))
    yield "Calibration of the score", (
        "Each point stands for the predictions in one tenth of the scale. On the "
        "diagonal, the score equals the accuracy. Below it, the model is overconfident."
    ), encode(draw_calibration(read_table(plots / "calibration.json")))
    chosen = "There is none now." if threshold is None else f"It is {threshold} now."
    yield "Coverage", (
        "What a threshold would do: a score below it is no answer. Choose one by the "
        "accuracy that users need, and set <code>threshold</code> in training/conf. "
        f"{chosen}"
    ), encode(draw_coverage(read_table(plots / "coverage.json"), threshold))


def describe_values(plots: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the sections of a regression."""
    residuals = read_table(plots / "residuals.json")
    yield "Predicted against actual", (
        "On the diagonal, the prediction is right."
    ), encode(draw_values(residuals))
    yield "Residuals", (
        "The prediction minus the actual value. Far from 0 on one side: the model is "
        "biased."
    ), encode(draw_residuals(residuals))
    yield "Error by decile", (
        "The test rows in ten parts by their actual values: mean error (bias) and mean "
        "absolute error (mae)."
    ), show(read_table(plots / "deciles.json"))


def show(table: pd.DataFrame) -> str:
    """Return a table as HTML."""
    return table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)


def draw_f1(table: pd.DataFrame) -> Figure:
    """Draw the F1 of each label as a bar, worst on top."""
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * len(table)))
    _draw_bars(axes, table["label"], table["f1"])
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1")
    return figure


def draw_importance(table: pd.DataFrame) -> Figure:
    """Draw the importance of each field as a bar, most important on top."""
    figure, axes = plt.subplots(figsize=(9, 1 + 0.3 * len(table)))
    _draw_bars(axes, table["field"], table["importance"])
    axes.set_xlabel("fall of the score")
    return figure


def _draw_bars(axes: Axes, names: "pd.Series[str]", values: "pd.Series[float]") -> None:
    places = range(len(names))
    axes.barh(places, values)
    axes.set_yticks(places, names.astype(str))
    axes.invert_yaxis()


def draw_confusion(table: pd.DataFrame, labels: list[str]) -> Figure:
    """Draw the share of each label's rows that was predicted as each label."""
    shares = pd.crosstab(table["actual"], table["predicted"], normalize="index")
    labels = sorted(labels)
    shares = shares.reindex(index=labels, columns=labels, fill_value=0)
    size = 3 + 0.22 * len(labels)
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    return figure


def draw_calibration(table: pd.DataFrame) -> Figure:
    """Draw the accuracy against the mean score, with the ideal diagonal."""
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    axes.plot(table["score"], table["accuracy"], marker="o")
    axes.set_xlabel("mean score")
    axes.set_ylabel("accuracy")
    return figure


def draw_coverage(table: pd.DataFrame, threshold: float | None) -> Figure:
    """Draw the share of the rows with an answer, and their accuracy, by threshold."""
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(table["threshold"], table["coverage"], label="coverage")
    axes.plot(table["threshold"], table["accuracy"], label="accuracy of the answers")
    if threshold is not None:
        axes.axvline(threshold, linestyle="--", color="grey")
    axes.set_xlabel("threshold")
    axes.set_ylim(0, 1.02)
    axes.legend()
    return figure


def draw_values(table: pd.DataFrame) -> Figure:
    """Draw the predicted value of each row against the actual one."""
    figure, axes = plt.subplots(figsize=(5, 5))
    numbers = table.to_numpy(np.float64)
    ends = [numbers.min(), numbers.max()]
    axes.plot(ends, ends, linestyle="--", color="grey")
    axes.scatter(table["actual"], table["value"], s=6, alpha=0.5)
    axes.set_xlabel("actual")
    axes.set_ylabel("predicted")
    return figure


def draw_residuals(table: pd.DataFrame) -> Figure:
    """Draw how often each size of error occurs."""
    figure, axes = plt.subplots(figsize=(7, 4))
    errors = table["value"] - table["actual"]
    widest = float(errors.abs().max()) or 1.0
    axes.hist(errors, bins=50, range=(-widest, widest))
    axes.axvline(0, linestyle="--", color="grey")
    axes.set_xlabel("predicted minus actual")
    axes.set_ylabel("rows")
    return figure


def encode(figure: Figure) -> str:
    """Return a figure as an image in the page, so that the page is a single file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    picture = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{picture}">'


if __name__ == "__main__":
    command(run)()
