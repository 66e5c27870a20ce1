"""Results as a table for the terminal, as JSON and as a page of HTML."""

import html
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from string import Template

from checks.results import Result, State
from checks.rubric import Answer, score

WIDTH = 100


def terminal(results: Sequence[Result], answers: Sequence[Answer]) -> str:
    """Return a table, with what is to do below each rule, and the score."""
    lines = [*terminal_score(answers), ""] if answers else []
    for one in results:
        head = f"{one.rule:<4}{one.state:<15}"
        lines.append(f"{head}{one.title}")
        if one.reason:
            lines += wrap(one.reason)
        for finding in one.findings if one.state is State.TO_DO else ():
            place = f"{finding.place}: " if finding.place else ""
            lines += wrap(f"{place}{finding.what}")
    return "\n".join([*lines, "", summary(results)])


def terminal_score(answers: Sequence[Answer]) -> list[str]:
    """Return the points of each part, with what would add to them."""
    parts = score(answers)
    lines = [headline(answers)]
    for part, points in parts.items():
        lines += ["", f"{part}: {points:g} of {sum(a.part == part for a in answers)}"]
        for one in answers:
            if one.part == part:
                lines.append(f"  {one.points:<4g}{one.question}")
                lines += wrap(one.advice)
    return lines


def headline(answers: Sequence[Answer]) -> str:
    """Return the score in a sentence."""
    least = min(score(answers).values())
    return f"ML Test Score (Breck et al., 2017): {least:g}, that of the weakest part."


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


def as_json(results: Sequence[Result], answers: Sequence[Answer]) -> str:
    """Return the results as JSON; without answers, there is no score."""
    found: dict[str, object] = {"rules": [asdict(one) for one in results]}
    if answers:
        found["score"] = {
            "score": min(score(answers).values()),
            "parts": score(answers),
            "answers": [asdict(one) for one in answers],
        }
    return json.dumps(found, indent=2, ensure_ascii=False)


def page(results: Sequence[Result], answers: Sequence[Answer], title: str) -> str:
    """Return the results as a page of HTML that needs no other file."""
    return PAGE.substitute(
        title=html.escape(title),
        summary=html.escape(summary(results)),
        rows="\n".join(map(row_of_rule, results)),
        headline=html.escape(headline(answers)) if answers else "",
        answers="\n".join(map(row_of_answer, answers)),
    )


def row_of_rule(one: Result) -> str:
    """Return a row of the table of the rules."""
    items = "".join(
        f"<li><code>{html.escape(f.place)}</code> {html.escape(f.what)}</li>"
        for f in (one.findings if one.state is State.TO_DO else ())
    )
    return (
        f'<tr class="{one.state.replace(" ", "-")}"><td>{one.rule}</td>'
        f"<td>{one.state}</td><td>{html.escape(one.title)}"
        f"<p>{html.escape(one.reason)}</p><ul>{items}</ul></td></tr>"
    )


def row_of_answer(one: Answer) -> str:
    """Return a row of the table of the score."""
    texts = (html.escape(text) for text in (one.question, one.evidence, one.advice))
    question, evidence, advice = texts
    return (
        f"<tr><td>{one.part}</td><td>{one.points:g}</td><td>{question}"
        f"<p>{evidence}</p><p>{advice}</p></td></tr>"
    )


PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 16px/1.4 sans-serif; max-width: 60rem; margin: 2rem auto }
table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid #ccc; padding: .4rem .6rem; vertical-align: top }
p:empty, ul:empty, h2:empty { display: none }
.done td:nth-child(2) { color: #176117 }
.to-do td:nth-child(2) { color: #a30000; font-weight: bold }
</style>
<h1>$title</h1>
<p>$summary</p>
<table>
$rows
</table>
<h2>$headline</h2>
<table>
$answers
</table>
</html>
""")
