"""Write the report from all kept results: `python -m benchmarks.report`.

It writes benchmarks/README.md with its plots, and the short table in the README of the
template. No figure is typed: tests/test_report.py compares both with the results.
"""

from pathlib import Path
from typing import Any, cast

from benchmarks.curves import curves, draw
from benchmarks.markdown import table
from benchmarks.results import Comparison, Results, load
from benchmarks.sections import SECTIONS, missing, named, paragraph, rates, scaled
from benchmarks.targets import TARGETS

HERE = Path(__file__).parent
REPORT = HERE / "README.md"
README = HERE.parent / "README.md"
# What people say about the figures: where the rest is lost, what was tried.
FINDINGS = HERE / "findings.md"
START, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"

INTRODUCTION = """\
# Benchmarks

What is generated, beside other ways to do the same, and what the template costs those
who work with it. Every figure is from `results/`, where each part has a file.

## How to repeat it

    make bench                            # all parts but the four below
    make bench PARTS="compare template"   # some of them
    make bench PARTS="soak suite"         # ten minutes of load; all tests
    make bench PARTS=languages            # train on each language, ten minutes
    make bench PARTS=adoption             # adopt public tables, 36 minutes
    python -m benchmarks.rate --help      # two variants of the service, in turns
    make capacity                         # measure what every service is born with
    python -m benchmarks.report           # write this page again

It takes Linux, two CPUs that do nothing else, and wrk (`apt-get install wrk`). A server
has the first CPU and the load generator another. Rounds alternate between what is
compared, and the figures are medians of the rounds; a ratio is the median of the ratios
of each round. Rates are answers a second; a server that answers one request with an
error has no figure but the reason. What a pod may use, and why, is not here: every
service measures it with its own `make bench`, and that of the default service is
[docs/capacity.md](../{{cookiecutter.service_slug}}/docs/capacity.md).
"""


def write() -> None:
    """Write the report, its plots and the table of the README."""
    results = load()
    draw(results)
    REPORT.write_text(report(results), encoding="utf-8")
    text = with_summary(README.read_text(encoding="utf-8"), results)
    README.write_text(text, encoding="utf-8")


def report(results: Results) -> str:
    """Return the text of benchmarks/README.md."""
    sections = [
        INTRODUCTION.strip(),
        conditions(results),
        "## Targets",
        targets(results),
    ]
    if FINDINGS.is_file():
        sections.append(FINDINGS.read_text(encoding="utf-8").strip())
    for part, kept in parts(results).items():
        title, body = SECTIONS[part]
        sections += [f"## {title}", missing(part) if kept is None else body(kept)]
    sections += ["## How cost grows", growth(results)]
    return "\n\n".join(sections) + "\n"


def parts(results: Results) -> dict[str, Any]:
    """Return the result of each part, in the order of the report; None if missing."""
    kept = cast(dict[str, Any], results)
    return {part: kept.get(part) for part in SECTIONS}


def with_summary(readme: str, results: Results) -> str:
    """Return the README with the short table between its marks.

    Raises ValueError if a mark is not there.
    """
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md has no {START} … {END}: put the marks back.")
    return f"{before}{START}\n{summary(results)}\n{END}{after}"


def summary(results: Results) -> str:
    """Return the comparison in short, with its date, versions and how to repeat it."""
    compare = results.get("compare")
    if compare is None:
        return missing("compare")
    said = paragraph(
        f"Measured on {compare['date']}, with {compare['cpus']} CPUs, one of them for "
        f"the server; columns are by connections. With {named(frameworks(compare))}. "
        "`make bench` repeats it; [benchmarks/README.md](benchmarks/README.md) has the "
        "rest: what one service carries, how cost grows, which targets were missed."
    )
    return f"{rates(compare)}\n\n{said}"


def frameworks(compare: Comparison) -> dict[str, str]:
    """Return the versions of the service, and the first one of each other server."""
    found: dict[str, str] = {}
    for peer in compare["peers"]:
        names = [name for name in peer["versions"] if name != "python"]
        wanted = peer["versions"] if peer["name"] == "service" else names[:1]
        for name in wanted:
            found.setdefault(name, peer["versions"][name])
    return found


def conditions(results: Results) -> str:
    """Return when and with what each part was measured."""
    rows = []
    for part, kept in parts(results).items():
        if kept is None:
            rows.append((f"`{part}`", "not yet", "", "", ""))
            continue
        took = scaled(kept["took"], 60, "min", 1)
        # Of the comparison, each server has its own.
        said = named(kept["versions"]) if "versions" in kept else "see there"
        rows.append((f"`{part}`", kept["date"], str(kept["cpus"]), took, said))
    return table(("Part", "Measured on", "CPUs", "Took", "With"), rows)


def targets(results: Results) -> str:
    """Return each target, and whether it was reached."""
    rows = []
    for target in TARGETS:
        figure = target.measured(results)
        if figure is None:
            rows.append((target.what, target.wanted, "not measured", ""))
            continue
        verdict = "reached" if target.reached(figure) else "**not reached**"
        rows.append((target.what, target.wanted, f"{figure:.3g}{target.unit}", verdict))
    return table(("Target", "Wanted", "Measured", "Verdict"), rows)


def growth(results: Results) -> str:
    """Return the plots."""
    drawn = [f"![{curve.title}](plots/{curve.name}.svg)" for curve in curves(results)]
    undrawn = [missing(part) for part in ("growth", "labels") if part not in results]
    return "\n\n".join(drawn + undrawn)


if __name__ == "__main__":
    write()
