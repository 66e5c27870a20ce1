"""Markdown tables: written for the report, and read from the reports of a service."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt

Row = dict[str, str]


# A figure, with its bound and unit, or the dash for one that is not there.
is_figure = re.compile(r"([≤≥] )?[\d,.]+( (ms|s|min|MB|%))?|–?").fullmatch


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the columns that hold nothing but figures stand to the right."""
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    rule = ["---:" if all(map(is_figure, cells)) else "---" for cells in columns]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(text: str) -> dict[str, list[Row]]:
    """The rows of the first table under each heading, by the heads of their columns.

    Of columns with the same head the first counts.
    """
    found: dict[str, list[Row]] = {}
    heading = ""
    lines: list[list[str]] = []
    for token, following in pairwise(MarkdownIt().enable("table").parse(text)):
        match token.type:
            case "heading_open":
                heading = following.content
            case "table_open":
                lines = []
            case "tr_open":
                lines.append([])
            case "th_open" | "td_open":
                lines[-1].append(following.content)
            case "tbody_close":
                head, *body = lines
                rows = [dict(zip(head[::-1], line[::-1], strict=True)) for line in body]
                found.setdefault(heading, rows)
    return found
