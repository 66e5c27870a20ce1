"""The panels of monitoring/dashboard.json: their queries, and their pictures."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monitoring.__main__ import ROOT

DASHBOARD = ROOT / "monitoring" / "dashboard.json"
UNITS = {"reqps": "requests/s", "cps": "1/s", "percentunit": "share", "short": ""}
DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
RATE = "4m"  # $__rate_interval: four scrapes at Prometheus's default interval
LEGEND = 10  # most lines with a colour and a name of their own

Panel = dict[str, Any]
Labels = Mapping[str, str]
Values = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]


class DashboardError(Exception):
    """The dashboard, or a query of it, cannot be used; the message says why."""


@dataclass(frozen=True)
class Window:
    """What a picture shows: Unix times, and the seconds from one point to the next."""

    start: float
    end: float
    step: float

    def grid(self, points: list[tuple[float, str]]) -> Values:
        """Return the values at every step; NaN where there is none, or no number."""
        values = np.full(int((self.end - self.start) / self.step + 1.5), np.nan)
        for moment, value in points:
            values[round((moment - self.start) / self.step)] = value
        values[np.isinf(values)] = np.nan
        return values


@dataclass(frozen=True)
class Line:
    """A series of a panel: labels, name in the legend, a value for each step."""

    labels: Labels
    name: str
    values: Values


def load_dashboard() -> dict[str, Any]:
    """Read the dashboard. Raises DashboardError if it is not Grafana's classic JSON."""
    try:
        document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        document["panels"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DashboardError(
            f"{DASHBOARD.relative_to(ROOT)} is no dashboard in Grafana's classic model "
            f"({type(error).__name__}: {error}). Export it again in that model."
        ) from None
    return document


def load_panels(document: dict[str, Any]) -> list[Panel]:
    """Return the panels in their order, without rows; also those in collapsed rows."""
    panels: list[Panel] = []
    for panel in document["panels"]:
        panels += panel.get("panels", []) if panel.get("type") == "row" else [panel]
    return panels


def load_targets(panel: Panel) -> list[dict[str, Any]]:
    """Return the targets of a panel that have a query and are not hidden."""
    targets = panel.get("targets", [])
    return [one for one in targets if one.get("expr") and not one.get("hide")]


def shown_seconds(document: dict[str, Any]) -> float:
    """Return the length of the time that the dashboard shows; six hours if unclear."""
    begin = str(document.get("time", {}).get("from"))
    match = re.fullmatch(r"now-(\d+)([smhdw])", begin)
    return int(match[1]) * DURATIONS[match[2]] if match else 6 * 3600


def variables(document: dict[str, Any], window: Window) -> dict[str, str]:
    """Return the values of Grafana's variables when the dashboard is opened."""
    values = {"__rate_interval": RATE}
    spans = {"interval": window.step, "range": window.end - window.start}
    for name, seconds in spans.items():
        values |= {f"__{name}": f"{seconds:.0f}s", f"__{name}_s": f"{seconds:.0f}"}
        values[f"__{name}_ms"] = f"{seconds * 1000:.0f}"
    for variable in document.get("templating", {}).get("list", []):
        chosen = chosen_values(variable)
        if "$__all" in chosen:
            chosen = [variable.get("allValue") or ".*"]
        if len(chosen) > 1:
            chosen = [f"({'|'.join(map(re.escape, chosen))})".replace("\\", "\\\\")]
        for value in chosen:
            automatic = value.startswith("$__auto_interval")
            values[variable["name"]] = RATE if automatic else value
    return values


def chosen_values(variable: dict[str, Any]) -> list[str]:
    """Return what is chosen for a variable when the dashboard is opened."""
    value = variable.get("current", {}).get("value")
    if not value and variable.get("includeAll"):
        value = "$__all"
    if not value and variable.get("type") != "query":  # typed in: the first of a list
        value = str(variable.get("query", "")).split(",")[0].strip()
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one]


def fill(query: str, values: Mapping[str, str]) -> str:
    """Put variables into a query: `$x`, `${x}`, `${x:regex}`, `[[x]]`.

    Raises DashboardError for a variable that has no value in the dashboard's file.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if name not in values:
            raise DashboardError(f"the dashboard's file has no value for ${name}")
        return values[name]

    name = r"([A-Za-z_]\w*)"  # $1 is a group of label_replace
    forms = (r"\$\{" + name + r"(?::\w+)?\}", r"\[\[" + name + r"\]\]", r"\$" + name)
    return re.sub("|".join(forms), value, query)


def legend(target: dict[str, Any], labels: Labels, title: str) -> str:
    """Return the name of a series: a label in double braces stands for its value."""
    given: str = target.get("legendFormat") or "__auto"
    if given == "__auto":
        return ", ".join(v for k, v in labels.items() if k != "__name__") or title
    return re.sub(r"[{]{2}\s*(\w+)\s*[}]{2}", lambda m: labels.get(m[1], ""), given)


def draw(panel: Panel, lines: list[Line], window: Window) -> bytes:
    """Draw a panel from what its queries gave; return the PNG."""
    matplotlib.rcdefaults()  # whatever a matplotlibrc says
    # A label may hold a $.
    matplotlib.rcParams |= {"text.parse_math": False, "date.converter": "concise"}
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    unit = defaults.get("unit", "")
    axes.set(title=panel.get("title", ""), xlabel="UTC", ylabel=UNITS.get(unit, unit))
    seconds = np.linspace(window.start, window.end, len(lines[0].values))
    times = (seconds * 1000).astype("datetime64[ms]")
    if panel.get("type") in {"heatmap", "histogram"} and "le" in lines[0].labels:
        draw_buckets(axes, times, lines)
    else:
        draw_lines(axes, times, lines)
        axes.set_ylim(bottom=defaults.get("min"))
    axes.set(xlim=(times[0], times[-1]))
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    return picture.getvalue()


def draw_lines(axes: Axes, times: Times, lines: list[Line]) -> None:
    """Draw series; the largest are named, the others grey."""
    ranked = sorted(lines, key=lambda line: -np.nanmax(line.values))
    for number, line in enumerate(ranked):
        colour = f"C{number}" if number < LEGEND else "lightgrey"
        axes.plot(times, line.values, color=colour, marker=".", markersize=3)
    names = [line.name for line in ranked[:LEGEND]]
    title = f"{LEGEND} of {len(lines)}" if len(lines) > LEGEND else None
    key = axes.legend(axes.get_lines()[:LEGEND], names, title=title, fontsize="small")
    key.set(loc="upper left", bbox_to_anchor=(1, 1))


def draw_buckets(axes: Axes, times: Times, lines: list[Line]) -> None:
    """Draw cumulative buckets as a heatmap of what is in each of them."""
    counts: dict[float, Values] = {}
    for line in lines:
        bound, values = float(line.labels.get("le", "inf")), np.nan_to_num(line.values)
        counts[bound] = counts.get(bound, np.zeros(len(times))) + values
    bounds = sorted(counts)
    buckets = np.diff([counts[bound] for bound in bounds], axis=0, prepend=0)
    mesh = axes.pcolormesh(times, range(len(bounds)), np.clip(buckets, 0, None))
    axes.set_yticks(range(len(bounds)), [f"≤ {bound:g}" for bound in bounds])
    axes.figure.colorbar(mesh, ax=axes)
