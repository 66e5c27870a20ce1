"""Render `docs/capacity.md` from `reports/capacity.json`."""

import inspect
from collections.abc import Mapping

from bench import ROOT, rules
from bench.capacity import Capacity, Level
from bench.rules import MAX_P99, MIB, RULES, carried_well, place
from monitoring.__main__ import table

DOCUMENT = ROOT / "docs" / "capacity.md"

# What `make adopt` adds, until `make bench` writes the document again.
OUTDATED = """
**This describes another model** than the one that is served since `make adopt`: run
`make bench`.
"""

PAGE = """\
# What one pod carries

`make bench` wrote this on {date}, with model `{model_version}` on {cpus} CPUs, one of
them for the service alone; each measurement took {seconds:g} s. The figures are in
`reports/capacity.json`, the rules in `bench/rules.py`.
{doubts}
**{rate:,.0f} requests a second**, of one instance each. Each connection sends its next
request when the last one is answered:

{by_connections}
Below, requests are due at random moments, at a share of that rate, and latencies count
from the moment a request was due:

{by_step}
The service was ready after {seconds_to_ready:.2f} s, with {start:.0f} MiB of resident
memory; with the largest bodies it took {most:.0f} MiB at the most.

This follows for `deploy/base`, with MAX_P99 = {max_p99:.0f} ms, MAX_CPU_SHARE =
{max_cpu_share:.0%} and MEMORY_FACTOR = {memory_factor}.
`tests/bench/test_capacity.py` fails if `deploy/base` differs.

{follows}"""


def mark_outdated(text: str) -> str:
    """Return the document with the line that it describes another model."""
    if OUTDATED in text:
        return text
    title, end, rest = text.partition("\n")
    return title + end + OUTDATED + rest


def find_doubts(capacity: Capacity) -> list[str]:
    """Return the reasons why `deploy/` should not follow these figures."""
    peak = capacity.peak
    doubts = []
    if capacity.cpus < 2:
        doubts.append("The service and the load shared one CPU: measure with two.")
    if peak.cores < 0.9:
        doubts.append(
            f"The machine was busy: the service got {peak.cores:.2f} of its CPU at the "
            "peak. Measure again on a quiet one with two CPUs."
        )
    if not carried_well(capacity):
        doubts.append(
            f"No step had a p99 within {MAX_P99 * 1e3:.0f} ms; the lowest counts. "
            "Measure lower steps (STEPS, bench/capacity.py) or allow more (MAX_P99, "
            "bench/rules.py)."
        )
    return doubts


def render(capacity: Capacity) -> str:
    """Return the document in Markdown."""
    doubts = "".join(f"\n**Doubtful**: {doubt}\n" for doubt in find_doubts(capacity))
    rows = [
        [f"`{name}`", f"`{rule(capacity)}`", place(name), inspect.getdoc(rule) or ""]
        for name, rule in RULES.items()
    ]
    return PAGE.format(
        **dict(capacity),
        doubts=doubts,
        rate=capacity.peak.rate,
        by_connections=_levels("Connections", "{:,}", capacity.connections),
        by_step=_levels("Share", "{:.0%}", capacity.steps),
        start=capacity.memory_at_start / MIB,
        most=capacity.memory_at_most / MIB,
        max_p99=rules.MAX_P99 * 1e3,
        max_cpu_share=rules.MAX_CPU_SHARE,
        memory_factor=rules.MEMORY_FACTOR,
        follows=table(
            ["Value", "Is", "Stands in", "Follows from"],
            [[cell.replace("\n", " ") for cell in row] for row in rows],
        ),
    )


def _levels(
    head: str, key: str, levels: Mapping[int, Level] | Mapping[float, Level]
) -> str:
    columns = [head, "Requests/s", "p50, ms", "p99, ms", "Rejected", "Cores used"]
    form = key + "|{:,.0f}|{:.1f}|{:.1f}|{:.0%}|{:.2f}"
    rows = [
        (grows, one.rate, one.p50 * 1e3, one.p99 * 1e3, one.rejected, one.cores)
        for grows, one in levels.items()
    ]
    return table(columns, [form.format(*row).split("|") for row in rows])
