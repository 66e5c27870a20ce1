"""Writes the report from all kept results: `python -m benchmarks.report`.

It writes benchmarks/README.md with its plots, and the short table in the README of the
template. No figure is typed: tests/test_report.py compares both with the results.
"""

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any, cast

from benchmarks.curves import curves, draw
from benchmarks.markdown import table
from benchmarks.results import (
    Capacity,
    Labels,
    Results,
    Step,
    Suite,
    Template,
    Watched,
    load,
)
from benchmarks.targets import MB, TARGETS

if TYPE_CHECKING:
    from benchmarks.compare import Comparison

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

    make bench                            # all parts but the suite
    make bench PARTS="compare template"   # some of them
    make bench PARTS=suite                # how long all tests take
    python -m benchmarks.report           # write this page again

It takes Linux, two CPUs that do nothing else, and wrk (`apt-get install wrk`). A server
has the first CPU and the load generator another. Rounds alternate between what is
compared, and the figures are medians of the rounds; a ratio is the median of the ratios
of each round. Rates are answers a second; a server that answers one request with an
error has no figure but the reason.
"""


def write() -> None:
    """Write the report, its plots and the table of the README."""
    results = load()
    draw(results)
    REPORT.write_text(report(results), encoding="utf-8")
    text = with_summary(README.read_text(encoding="utf-8"), results)
    README.write_text(text, encoding="utf-8")


def report(results: Results) -> str:
    """The text of benchmarks/README.md."""
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
    """What is kept of each part, in the order of the report; None if nothing is."""
    kept = cast(dict[str, Any], results)
    return {part: kept.get(part) for part in SECTIONS}


def with_summary(readme: str, results: Results) -> str:
    """The README with the short table between its marks.

    Raises ValueError if a mark is not there.
    """
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md has no {START} … {END}: put the marks back.")
    return f"{before}{START}\n{summary(results)}\n{END}{after}"


def summary(results: Results) -> str:
    """The comparison in short, with its date, versions and how to repeat it."""
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


def frameworks(compare: "Comparison") -> dict[str, str]:
    """The versions of the service, and of the first that each other server names."""
    found: dict[str, str] = {}
    for peer in compare["peers"]:
        names = [name for name in peer["versions"] if name != "python"]
        wanted = peer["versions"] if peer["name"] == "service" else names[:1]
        for name in wanted:
            found.setdefault(name, peer["versions"][name])
    return found


def conditions(results: Results) -> str:
    """When and with what each part was measured."""
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
    """Each target, and whether it was reached."""
    rows = []
    for target in TARGETS:
        figure = target.measured(results)
        if figure is None:
            rows.append((target.what, target.wanted, "not measured", ""))
            continue
        verdict = "reached" if target.reached(figure) else "**not reached**"
        rows.append((target.what, target.wanted, f"{figure:.3g}{target.unit}", verdict))
    return table(("Target", "Wanted", "Measured", "Verdict"), rows)


def missing(part: str) -> str:
    """What is said in place of figures that are not there."""
    return f"Not measured yet: `make bench PARTS={part}` does it."


def paragraph(text: str) -> str:
    """The text in lines as long as those of the other documents."""
    return fill(text, 88, break_long_words=False, break_on_hyphens=False)


def named(versions: dict[str, str]) -> str:
    """The versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def steps(measured: dict[str, Step]) -> str:
    """How long each step takes, and what of it takes longest."""
    rows = [
        (
            f"`{name}`",
            f"{step['seconds']:.1f} s",
            ", ".join(f"{part} {of:.1f} s" for part, of in step["largest"].items()),
        )
        for name, step in measured.items()
    ]
    return table(("Step", "Takes", "Most of it"), rows)


def compare_section(compare: "Comparison") -> str:
    """What each server carries, what it takes, and which could not be measured."""
    most = str(compare["connections"][-1])
    resources = []
    for peer in compare["peers"]:
        last = peer["figures"].get(most)
        cells = (
            scaled(peer["seconds_to_ready"], 1, "s", 2),
            scaled(peer["resident_bytes"], MB, "MB"),
            scaled(peer["environment_bytes"], MB, "MB"),
            scaled(last and last["busy"], 0.01, "%"),
            named(peer["versions"]),
        )
        resources.append((peer["title"], *cells))
    header = (
        *("Server", "Ready after", "Memory", "Environment"),
        *(f"of its core at {most}", "Versions"),
    )
    failures = [
        f"{peer['title']} was not measured:\n\n" + indent(peer["failure"], " " * 4)
        for peer in compare["peers"]
        if peer["failure"]
    ]
    said = paragraph(
        "One model (scikit-learn's logistic regression on 30 floats, its breast cancer "
        f"data), {compare['instances']} real instances, one a request. The answers of "
        "every server were compared with scikit-learn's first. Rounds: "
        f"{compare['rounds']}, each of {compare['seconds']:g} s for every server and "
        "number of connections."
    )
    return "\n\n".join([said, rates(compare), table(header, resources), *failures])


def rates(compare: "Comparison") -> str:
    """The rate and p99 of each server, and how many times its rate the service has."""
    connections = [str(number) for number in compare["connections"]]
    rows = []
    for peer in compare["peers"]:
        figures = [peer["figures"].get(number) for number in connections]
        cells = [
            *(scaled(each and each["rate"]) for each in figures),
            *(scaled(each and each["ratio"], digits=2) for each in figures),
            scaled(figures[-1] and figures[-1]["p99"], 1e-3, "ms", 1),
        ]
        rows.append((peer["title"], *cells))
    header = (
        "Server",
        *(f"requests/s at {number}" for number in connections),
        *(f"service to it at {number}" for number in connections),
        f"p99 at {connections[-1]}",
    )
    return table(header, rows)


def scaled(
    figure: float | None, scale: float = 1, unit: str = "", digits: int = 0
) -> str:
    """A figure in its unit, or a dash for one that is not there."""
    if figure is None:
        return "–"
    return f"{figure / scale:,.{digits}f} {unit}".strip()


def capacity_section(capacity: Capacity) -> str:
    """The reports of the service, as its verbs wrote them."""
    whose = "The default service in a fresh repository, by its own verbs."
    return "\n\n".join([whose, deeper(capacity["capacity"]), deeper(capacity["soak"])])


def deeper(markdown: str) -> str:
    """The same text for a section of this report, which has the plots elsewhere."""
    text = re.sub("^!\\[.*\n+", "", markdown.strip(), flags=re.M)
    return re.sub("^#+ ", r"##\g<0>", text, flags=re.M)


def labels_section(labels: Labels) -> str:
    """Rate and p99 for each number of labels."""
    rows = [
        (number, scaled(load["rate"]), scaled(load["p99"], 1e-3, "ms", 1))
        for number, load in labels["labels"].items()
    ]
    said = paragraph(
        "The model of the default service, fitted to its sentences with labels that "
        f"their hashes deal out; {labels['connections']} connections."
    )
    return f"{said}\n\n{table(('Labels', 'Requests a second', 'p99'), rows)}"


def watched_section(watched: Watched) -> str:
    """The cost of metrics, log lines and request ids."""
    return paragraph(
        "With metrics, log lines and request ids the service has "
        f"{watched['ratio']:.3f} of the request rate that it has without them "
        f"(quartiles of {watched['rounds']} rounds: {watched['low']:.3f} to "
        f"{watched['high']:.3f}; {watched['connections']} connections)."
    )


def template_section(template: Template) -> str:
    """The cost of generation, then that of each step."""
    generation = template["generation"]
    full, without, empty = (
        generation[key] for key in ("template", "without_hooks", "empty")
    )
    said = paragraph(
        f"Generation takes {full:.2f} s of processor time, {full / empty:.2f} times "
        f"that of an empty template: {empty:.2f} s are cookiecutter's start, "
        f"{without - empty:.2f} s the rendering and {full - without:.2f} s the hooks. "
        "The steps after it, in wall time, with packages that are in uv's cache and "
        "bytecode that is compiled:"
    )
    return f"{said}\n\n{steps(template['steps'])}"


def suite_section(suite: Suite) -> str:
    """How long the tests take."""
    return steps(suite["steps"])


def growth(results: Results) -> str:
    """The plots."""
    drawn = [f"![{curve.title}](plots/{curve.name}.svg)" for curve in curves(results)]
    undrawn = [missing(part) for part in ("capacity", "labels") if part not in results]
    return "\n\n".join(drawn + undrawn)


SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "compare": ("The same model behind other servers", compare_section),
    "capacity": ("What one service carries", capacity_section),
    "labels": ("The number of labels", labels_section),
    "watched": ("What it costs to be watched", watched_section),
    "template": ("What the template costs", template_section),
    "suite": ("All tests of the template", suite_section),
}

if __name__ == "__main__":
    write()
