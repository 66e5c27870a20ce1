"""How cost grows: request rate and p99 against what they grow with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Load, Results

PLOTS = Path(__file__).parent / "plots"


@dataclass(frozen=True)
class Curve:
    """One plot: rate and p99 against a number, which is the key in `loads`."""

    name: str
    title: str
    counted: str
    loads: Mapping[str, Load]


def curves(results: Results) -> list[Curve]:
    """Return all that can be drawn from what was measured."""
    found = []
    if growth := results.get("growth"):
        batches, lengths = growth["batches"], growth["lengths"]
        found = [
            Curve("connections", "Connections", "requests", growth["connections"]),
            Curve("batches", "Instances in a request", "instances", batches),
            Curve("lengths", "Characters in a text", "requests", lengths),
        ]
    if labels := results.get("labels"):
        found.append(Curve("labels", "Labels", "requests", labels["labels"]))
    return [curve for curve in found if curve.loads]


def draw(results: Results) -> None:
    """Write an SVG file for each curve; the same figures give the same bytes."""
    # Not above: it is in the group `bench`, and the tests draw nothing.
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"
    PLOTS.mkdir(exist_ok=True)
    for curve in curves(results):
        numbers = [int(number) for number in curve.loads]
        rates = [load["rate"] for load in curve.loads.values()]
        tails = [load["p99"] * 1000 for load in curve.loads.values()]
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3))
        for axes, figures, of in (
            (left, rates, f"{curve.counted} a second"),
            (right, tails, "p99, ms"),
        ):
            axes.plot(numbers, figures, marker="o")
            axes.set_xscale("log")
            axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.set_xlabel(curve.title)
            axes.set_ylabel(of)
            axes.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(PLOTS / f"{curve.name}.svg", metadata={"Date": None})
        pyplot.close(figure)
