"""Write an HTML page with the metrics and plots of the model: `make report`."""

import base64
import html
import io
import logging
from pathlib import Path
from string import Template

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from training.files import read_bytes, read_json, write_text
from training.stage import command
from training.values import Config

logger = logging.getLogger(__name__)

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Model report</title>
<style>
  body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; }
  img { max-width: 100%; }
  td, th { padding: 0 1rem 0 0; text-align: left; }
</style>
<h1>Model report</h1>
<h2>Metrics on the test rows</h2>
<table>$metrics</table>
<h2>Why not a random split?</h2>
<p>The macro-F1 is <b>$honest</b>. A random split of the same rows would show
<b>$leaky</b>. If rows come from templates, the training rows of a random split have
near-duplicates of its test rows. That rewards memorisation; users will see the first
figure. Without templates, both splits are random and differ only by chance.</p>
<h2>F1 of each label</h2>
<img alt="F1 of each label" src="$f1">
<h2>Confusion matrix</h2>
<img alt="Confusion matrix" src="$confusion">
<h2>Calibration of the score</h2>
<p>Each point stands for the predictions in one tenth of the scale. On the diagonal, the
score equals the accuracy. Below it, the model is overconfident.</p>
<img alt="Calibration" src="$calibration">
</html>
""")


def run(config: Config) -> None:
    """Write `paths.report` from the files of the evaluation."""
    metrics = read_json(config.paths.metrics)
    plots = config.paths.plots
    page = PAGE.substitute(
        metrics="".join(
            f"<tr><th>{html.escape(name)}</th><td>{value}</td></tr>"
            for name, value in metrics.items()
        ),
        honest=f"{metrics['macro_f1']:.3f}",
        leaky=f"{metrics['macro_f1_random_split']:.3f}",
        f1=encode(draw_f1(_table(plots / "f1.csv"))),
        confusion=encode(draw_confusion(_table(plots / "confusion.csv"))),
        calibration=encode(draw_calibration(_table(plots / "calibration.csv"))),
    )
    write_text(config.paths.report, page)
    logger.info("Open %s", config.paths.report.resolve().as_uri())


def draw_f1(table: pd.DataFrame) -> Figure:
    """Draw the F1 of each label as a bar, worst on top."""
    figure, axes = plt.subplots(figsize=(9, 1 + 0.22 * len(table)))
    axes.barh(table["label"], table["f1"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1")
    return figure


def draw_confusion(table: pd.DataFrame) -> Figure:
    """Draw the share of each label's rows that was predicted as each label."""
    shares = pd.crosstab(table["actual"], table["predicted"], normalize="index")
    labels = sorted(set(table["actual"]) | set(table["predicted"]))
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


def encode(figure: Figure) -> str:
    """Return a figure as a data URL, so that the page is a single file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(read_bytes(path)), keep_default_na=False)


if __name__ == "__main__":
    plt.switch_backend("agg")
    command(run)()
