"""Results as a table for the terminal, as JSON and as a page of HTML."""

import html
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from string import Template

from checks.results import Result, State

WIDTH = 100


def terminal(results: Sequence[Result]) -> str:
    """Return a table, with what is to do below each rule."""
    lines = []
    for one in results:
        head = f"{one.rule:<4}{one.state:<15}"
        lines.append(f"{head}{one.title}")
        if one.reason:
            lines += wrap(one.reason)
        for finding in one.findings if one.state is State.TO_DO else ():
            place = f"{finding.place}: " if finding.place else ""
            lines += wrap(f"{place}{finding.what}")
    return "\n".join([*lines, "", summary(results)])


def wrap(text: str) -> list[str]:
    """Return the lines of a text below a rule."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * 6 + "- ",
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def summary(results: Sequence[Result]) -> str:
    """Return how many rules are in which state."""
    counted = Counter(one.state for one in results)
    states = (f"{counted[state]} {state}" for state in State if counted[state])
    return f"{len(results)} rules: {', '.join(states)}. docs/rules.md explains them."


def as_json(results: Sequence[Result]) -> str:
    """Return the results as JSON."""
    return json.dumps([asdict(one) for one in results], indent=2, ensure_ascii=False)


def page(results: Sequence[Result], title: str) -> str:
    """Return the results as a page of HTML that needs no other file."""
    rows = []
    for one in results:
        findings = one.findings if one.state is State.TO_DO else ()
        items = "".join(
            f"<li><code>{html.escape(f.place)}</code> {html.escape(f.what)}</li>"
            for f in findings
        )
        rows.append(
            f'<tr class="{one.state.replace(" ", "-")}"><td>{one.rule}</td>'
            f"<td>{one.state}</td><td>{html.escape(one.title)}"
            f"<p>{html.escape(one.reason)}</p><ul>{items}</ul></td></tr>"
        )
    return PAGE.substitute(
        title=html.escape(title),
        summary=html.escape(summary(results)),
        rows="\n".join(rows),
    )


PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 16px/1.4 sans-serif; max-width: 60rem; margin: 2rem auto }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid #ccc; padding: .4rem .6rem; vertical-align: top }
p:empty, ul:empty { display: none }
.done td:nth-child(2) { color: #176117 }
.to-do td:nth-child(2) { color: #a30000; font-weight: bold }
</style>
<h1>$title</h1>
<p>$summary</p>
<table>
$rows
</table>
</html>
""")
